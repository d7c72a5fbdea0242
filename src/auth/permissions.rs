//! The permissions of one client.

use crate::channel::Namespace;
use crate::reason::ClientError;
use crate::settings::Auth;

/// The permissions of one client. They are one byte of its connection, so that an anonymous client
/// needs no box for them. They are decided once, so a later change of settings does not affect
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permissions {
    /// None. The client has not connected, or must not connect.
    Nothing,
    /// Everything that namespaces allow to clients without a user.
    Anonymous,
    /// Everything, because of `auth.insecure`.
    Everything,
}

/// The relation of a client to a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The client is not subscribed.
    Client,
    /// The client is subscribed.
    Subscriber,
}

impl Permissions {
    /// The permissions of a client that connects without a token.
    pub fn without_token(auth: &Auth) -> Permissions {
        match auth {
            Auth { insecure: true, .. } => Permissions::Everything,
            Auth { anonymous: true, .. } => Permissions::Anonymous,
            _ => Permissions::Nothing,
        }
    }

    /// Whether the client may connect.
    pub fn may_connect(self) -> bool {
        self != Permissions::Nothing
    }

    /// Checks whether the client may subscribe to `channel` of `namespace`.
    ///
    /// # Errors
    /// The error for the client.
    pub fn check_subscribe(self, channel: &str, namespace: &Namespace) -> Result<(), ClientError> {
        // `$` marks channels that need a token. `#` is an ordinary character, as in Centrifugo
        // without user-limited channels.
        let open = !channel.starts_with('$');
        if self == Permissions::Everything || open && self.may_subscribe_within(namespace) {
            Ok(())
        } else {
            Err(ClientError::PermissionDenied)
        }
    }

    /// Whether the client may subscribe to channels of `namespace` at all.
    pub fn may_subscribe_within(self, namespace: &Namespace) -> bool {
        let allowed =
            namespace.allow_subscribe_for_client && namespace.allow_subscribe_for_anonymous;
        self.allows(allowed)
    }

    /// Whether the client may publish to a channel of `namespace`.
    pub fn may_publish(self, namespace: &Namespace, role: Role) -> bool {
        let allowed = namespace.allow_publish_for_client
            || role == Role::Subscriber && namespace.allow_publish_for_subscriber;
        self.allows(allowed && namespace.allow_publish_for_anonymous)
    }

    /// Whether the client may read the history of a channel of `namespace`.
    pub fn may_read_history(self, namespace: &Namespace, role: Role) -> bool {
        let allowed = namespace.allow_history_for_client
            || role == Role::Subscriber && namespace.allow_history_for_subscriber;
        self.allows(allowed && namespace.allow_history_for_anonymous)
    }

    fn allows(self, to_anonymous: bool) -> bool {
        match self {
            Permissions::Nothing => false,
            Permissions::Anonymous => to_anonymous,
            Permissions::Everything => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use Permissions::{Anonymous, Everything, Nothing};

    fn namespace() -> Namespace {
        let settings = Settings::default();
        settings.channel.namespaces.resolve("c").expect("a channel").as_ref().clone()
    }

    #[test]
    fn who_has_no_token_is_anonymous_where_that_is_allowed() {
        for (insecure, anonymous, expected) in [
            (false, false, Nothing),
            (false, true, Anonymous),
            (true, false, Everything),
            (true, true, Everything),
        ] {
            let auth = Auth { insecure, anonymous };
            assert_eq!(Permissions::without_token(&auth), expected);
            assert_eq!(expected.may_connect(), expected != Nothing);
        }
    }

    #[test]
    fn an_anonymous_client_subscribes_where_both_settings_say_so_and_no_key_is_needed() {
        let client = Namespace { allow_subscribe_for_client: true, ..namespace() };
        let open = Namespace { allow_subscribe_for_anonymous: true, ..client.clone() };
        let denied = Err(ClientError::PermissionDenied);
        for (namespace, channel, expected) in [
            (&client, "c", denied),
            (&open, "c", Ok(())),
            (&open, "$c", denied),
            (&open, "c#1", Ok(())),
        ] {
            assert_eq!(Anonymous.check_subscribe(channel, namespace), expected, "{channel}");
            assert_eq!(Everything.check_subscribe(channel, namespace), Ok(()), "{channel}");
            assert_eq!(Nothing.check_subscribe(channel, namespace), denied, "{channel}");
        }
    }

    #[test]
    fn subscribers_may_do_what_their_setting_or_that_of_all_clients_allows() {
        let closed = namespace();
        let unnamed = Namespace {
            allow_publish_for_anonymous: true,
            allow_history_for_anonymous: true,
            ..closed.clone()
        };
        let subscriber = Namespace {
            allow_publish_for_subscriber: true,
            allow_history_for_subscriber: true,
            ..unnamed.clone()
        };
        let client = Namespace {
            allow_publish_for_client: true,
            allow_history_for_client: true,
            ..unnamed.clone()
        };
        let users = Namespace {
            allow_publish_for_anonymous: false,
            allow_history_for_anonymous: false,
            ..client.clone()
        };
        for (namespace, role, expected) in [
            (&closed, Role::Subscriber, false),
            (&unnamed, Role::Subscriber, false),
            (&subscriber, Role::Client, false),
            (&subscriber, Role::Subscriber, true),
            (&client, Role::Client, true),
            (&client, Role::Subscriber, true),
            (&users, Role::Client, false),
        ] {
            assert_eq!(Anonymous.may_publish(namespace, role), expected);
            assert_eq!(Anonymous.may_read_history(namespace, role), expected);
            assert!(Everything.may_publish(namespace, role));
            assert!(Everything.may_read_history(namespace, role));
            assert!(!Nothing.may_publish(namespace, role));
        }
    }
}
