//! The features of a subscription. A client, its URL or the application asks for them, and the
//! namespace allows or forces them.

use super::Permissions;
use crate::channel::Namespace;

/// The source of a subscription, and the features that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// A client's command that asks for no features.
    Plain,
    /// A client's command that asks to be told about gaps.
    Positioned,
    /// A client's command that asks for recovery, which includes being told about gaps.
    Recoverable,
    /// The application, which asks for all features that the namespace allows.
    Server,
    /// The URL of a plain WebSocket. Its protocols can't express that a client ignores gaps, so the
    /// client is always told about them. It may recover wherever there is a history.
    Path,
}

/// The granted features of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The client may return with a position and receive the publications after it.
    pub recoverable: bool,
    /// The client is told when it misses publications.
    pub positioned: bool,
}

impl Permissions {
    /// The features of a subscription in `namespace`.
    pub fn grant(self, namespace: &Namespace, wish: Wish) -> Grant {
        let has_history = namespace.has_history();
        if wish == Wish::Path {
            return Grant { recoverable: has_history, positioned: true };
        }
        let all = self == Permissions::Everything;
        let asks_recovery = matches!(wish, Wish::Recoverable | Wish::Server);
        let asks_positioning = matches!(wish, Wish::Positioned | Wish::Server);
        let recovers = asks_recovery && (namespace.allow_recovery || all);
        let recoverable = has_history && (namespace.force_recovery || recovers);
        let positions = asks_positioning && (namespace.allow_positioning || all);
        let positioned = has_history && (namespace.force_positioning || positions);
        // A client can recover only if it is told about gaps.
        Grant { recoverable, positioned: recoverable || positioned }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use Permissions::{Anonymous, Everything};

    fn namespace(history_size: usize) -> Namespace {
        let settings = Settings::default();
        let namespace = settings.channel.namespaces.resolve("c").expect("a channel").as_ref();
        let ttl = std::time::Duration::from_secs(1);
        Namespace { history_size, history_ttl: ttl, ..namespace.clone() }
    }

    fn grant(permissions: Permissions, namespace: &Namespace, wish: Wish) -> (bool, bool) {
        let Grant { recoverable, positioned } = permissions.grant(namespace, wish);
        (recoverable, positioned)
    }

    #[test]
    fn a_feature_is_granted_if_it_is_asked_for_and_allowed_or_if_it_is_forced() {
        let closed = namespace(10);
        let recovery = Namespace { allow_recovery: true, ..namespace(10) };
        let positioning = Namespace { allow_positioning: true, ..namespace(10) };
        let forced = Namespace { force_recovery: true, ..namespace(10) };
        let forced_positioning = Namespace { force_positioning: true, ..namespace(10) };
        for (namespace, wish, expected) in [
            (&closed, Wish::Recoverable, (false, false)),
            (&closed, Wish::Server, (false, false)),
            (&closed, Wish::Path, (true, true)),
            (&recovery, Wish::Plain, (false, false)),
            (&recovery, Wish::Positioned, (false, false)),
            (&recovery, Wish::Recoverable, (true, true)),
            (&recovery, Wish::Server, (true, true)),
            (&positioning, Wish::Recoverable, (false, false)),
            (&positioning, Wish::Positioned, (false, true)),
            (&positioning, Wish::Server, (false, true)),
            (&forced, Wish::Plain, (true, true)),
            (&forced_positioning, Wish::Plain, (false, true)),
        ] {
            assert_eq!(grant(Anonymous, namespace, wish), expected, "{namespace:?} {wish:?}");
        }
        assert_eq!(grant(Everything, &closed, Wish::Plain), (false, false));
        assert_eq!(grant(Everything, &closed, Wish::Positioned), (false, true));
        assert_eq!(grant(Everything, &closed, Wish::Recoverable), (true, true));
    }

    #[test]
    fn without_a_history_nothing_can_be_recovered_and_only_paths_are_told_of_gaps() {
        let forced = Namespace { force_recovery: true, force_positioning: true, ..namespace(0) };
        for wish in [Wish::Plain, Wish::Positioned, Wish::Recoverable, Wish::Server] {
            assert_eq!(grant(Everything, &forced, wish), (false, false), "{wish:?}");
        }
        assert_eq!(grant(Everything, &forced, Wish::Path), (false, true));
    }
}
