//! `corecast disconnect`: closes the connections of clients, on all nodes.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use super::api::{API_HELP, ApiArgs, Call};
use super::failure::Failure;
use super::print::print_line;
use super::table::visible;

/// Arguments of `disconnect`.
#[derive(Debug, Args)]
#[command(after_help = API_HELP)]
pub(super) struct DisconnectArgs {
    #[command(flatten)]
    whose: Whose,
    /// Close code, from 3000 to 4999 [default: 3503, after which SDKs do not reconnect].
    #[arg(long, value_name = "CODE", value_parser = clap::value_parser!(u16).range(3000..=4999))]
    code: Option<u16>,
    /// Text for the client, of at most 123 bytes.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Client that stays connected; may be given more than once.
    #[arg(long, value_name = "CLIENT")]
    keep: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// The connections. An empty `--user`, as from an unset variable of a script, must not mean
/// everybody, so that has a flag of its own.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Whose {
    /// Close the connection with this client id.
    #[arg(long, value_name = "CLIENT", value_parser = NonEmptyStringValueParser::new())]
    client: Option<String>,
    /// Close all connections of this user.
    #[arg(long, value_name = "USER", value_parser = NonEmptyStringValueParser::new())]
    user: Option<String>,
    /// Close the connections of all clients without a user. Without tokens these are all clients.
    #[arg(long)]
    everyone: bool,
}

/// The parameters of the method.
#[derive(Debug, Serialize)]
struct Params<'a> {
    user: &'a str,
    client: &'a str,
    whitelist: &'a [String],
    disconnect: Close<'a>,
}

#[derive(Debug, Serialize)]
struct Close<'a> {
    code: u16,
    reason: &'a str,
}

/// Closes the connections.
pub(super) fn run(args: &DisconnectArgs) -> Result<(), Failure> {
    let Whose { client, user, .. } = &args.whose;
    let reason = args.reason.as_deref().unwrap_or_default();
    let params = Params {
        user: user.as_deref().unwrap_or_default(),
        client: client.as_deref().unwrap_or_default(),
        whitelist: &args.keep,
        // 0 is the default of the API.
        disconnect: Close { code: args.code.unwrap_or(0), reason },
    };
    let purpose = format!("disconnect {}", args.whose.words());
    let result = args.api.call(&Call { method: "disconnect", params: &params, purpose })?;
    if args.api.json {
        return print_line(&result);
    }
    print_line(&format!("disconnected {}", args.whose.words()))
}

impl Whose {
    fn words(&self) -> String {
        match (&self.client, &self.user) {
            (Some(client), _) => format!("client {}", visible(client)),
            (_, Some(user)) => format!("user {}", visible(user)),
            (None, None) => "everyone".to_owned(),
        }
    }
}
