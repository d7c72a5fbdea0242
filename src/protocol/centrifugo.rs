//! Centrifugo's client protocol in its JSON form: what the `centrifuge` SDKs speak. Commands of
//! one message are separated by line feeds; every answer and every publication is a frame.
//!
//! Source: centrifugal/protocol `client.proto`, centrifugal/centrifuge `client.go`.

mod decode;
mod encode;

use std::borrow::Cow;
use std::sync::Arc;

use crate::channel::{ChannelView, DataType, Publication, payload_of_json};
use crate::protocol::{Codec, OnGap, Push, Reply, Request};
use crate::reason::{ClientError, CloseReason};
use crate::ws::{Opcode, encode_frame};

/// See the module.
pub(super) struct Centrifugo;

impl Codec for Centrifugo {
    fn decode<'m>(
        &self,
        _opcode: Opcode, // JSON in a binary frame is accepted too.
        message: &'m [u8],
    ) -> Result<(Request<'m>, &'m [u8]), CloseReason> {
        decode::first_request(message)
    }

    fn payload<'m>(
        &self,
        data_type: DataType,
        message: &'m [u8],
    ) -> Result<Cow<'m, [u8]>, ClientError> {
        payload_of_json(data_type, message)
    }

    fn encode_reply(
        &self,
        id: u32,
        reply: &Reply<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), CloseReason> {
        encode::reply(id, reply, out)
    }

    fn encode_push(&self, push: &Push<'_>, out: &mut Vec<u8>) -> Result<(), CloseReason> {
        encode::push(push, out)
    }

    fn encode_publications(
        &self,
        channel: &ChannelView<'_>,
        publications: &[Arc<Publication>],
        out: &mut Vec<u8>,
    ) {
        encode::publications(channel, publications, out);
    }

    fn on_gap(&self) -> OnGap {
        OnGap::Unsubscribe
    }

    fn encode_ping(&self, out: &mut Vec<u8>) -> bool {
        encode_frame(Opcode::Text, b"{}", out);
        true
    }
}
