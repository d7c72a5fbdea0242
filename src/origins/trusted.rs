//! The hosts that `--dev` trusts.

use super::authority::{Reach, reach};
use crate::settings::Settings;

/// The hosts whose pages may connect, and by whose names the server may be addressed, with `--dev`
/// unless the settings list others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trusted {
    /// This host, by its loopback names.
    Loopback,
    /// With `--expose`: also the hosts nearby, and this host by its own name.
    Nearby {
        /// The name of this host.
        own_name: String,
    },
}

impl Trusted {
    /// Returns the trusted hosts, or `None` without `--dev`.
    pub(super) fn of(settings: &Settings) -> Option<Trusted> {
        match (settings.dev, settings.expose) {
            (false, _) => None,
            (true, false) => Some(Trusted::Loopback),
            (true, true) => Some(Trusted::Nearby { own_name: settings.host_name.clone() }),
        }
    }

    /// Whether `host` is one of them.
    pub(super) fn has(&self, host: &str) -> bool {
        match (self, reach(host)) {
            (_, Reach::Loopback) | (Trusted::Nearby { .. }, Reach::Nearby) => true,
            (Trusted::Nearby { own_name }, Reach::Elsewhere) => own_name.eq_ignore_ascii_case(host),
            (Trusted::Loopback, Reach::Nearby | Reach::Elsewhere) => false,
        }
    }

    /// Describes them for refusals.
    pub(super) fn described(&self) -> &'static str {
        match self {
            Trusted::Loopback => "--dev trusts localhost, 127.0.0.0/8 and [::1] only",
            Trusted::Nearby { .. } => {
                "--dev --expose trusts this host, private addresses and names without a dot only"
            }
        }
    }
}
