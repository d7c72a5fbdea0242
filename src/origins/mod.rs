//! Decides which web pages may connect, and by which names this server may be addressed. Pure.
//!
//! A browser connects for any page that asks, with the cookies of its user, and from inside
//! networks that the author of the page can't reach. It sends the origin of the page, which pages
//! can't forge: [`Origins`], RFC 6455 §10.2. With DNS rebinding, an author points a name at this
//! server, so that the page seems to come from the server's own host. Only that name in `Host`
//! shows the attack: [`Hosts`].

mod authority;
mod hosts;
mod pages;
mod pattern;
mod trusted;

pub use hosts::{Hosts, is_host_pattern, is_rebindable};
pub use pages::{Origins, admits_strangers, is_origin_pattern, matches_all_pages};

use crate::limits::REFUSED_VALUE_BYTES_MAX;

/// Returns the part of a refused value that its refusal shows.
fn shown(value: &str) -> &str {
    let mut end = value.len().min(REFUSED_VALUE_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}
