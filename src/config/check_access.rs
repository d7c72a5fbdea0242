//! Checks the settings that decide who can reach what: addresses, keys, pages, hosts and paths.

use super::problem::Found;
use crate::limits::{API_KEY_BYTES_MAX, SETTING_PATH_PREFIX_BYTES_MAX};
use crate::origins::{
    admits_strangers, is_host_pattern, is_origin_pattern, is_rebindable, matches_all_pages,
};
use crate::settings::Settings;

/// Finds access that is open to more people than intended.
pub(super) fn check_doors(settings: &Settings, found: &mut Found) {
    let server = &settings.server;
    if let Some(open) = server.listen.iter().find(|address| !address.is_local())
        && settings.auth.insecure
        && !settings.expose
    {
        let text = format!(
            "= true lets anyone who can reach {open} subscribe and publish: listen on 127.0.0.1 \
             only, or set auth.insecure = false{}",
            if settings.dev { " (--dev sets it to true), or use --dev --expose" } else { "" }
        );
        found.add("auth.insecure", text);
    }
    let is_meant = settings.dev && settings.expose;
    let open = server.api_listen.tcp().filter(|address| !address.ip().is_loopback());
    if let Some(open) = open
        && settings.api.keys.is_empty()
        && !is_meant
    {
        let text = format!(
            "is empty, but other hosts can reach the API at {}: add a key (openssl rand -hex 32), \
             or set server.api_listen to 127.0.0.1:{}{}",
            open,
            open.port(),
            if settings.dev { ", or use --dev --expose" } else { "" }
        );
        found.add("api.keys", text);
    }
    for key in &settings.api.keys {
        if key.is_empty() || key.len() > API_KEY_BYTES_MAX || !key.bytes().all(is_key_byte) {
            let text = format!(
                "has an invalid key of {} bytes: use 1 to {API_KEY_BYTES_MAX} printable ASCII \
                 characters without spaces, because keys are sent in a header",
                key.len()
            );
            found.add("api.keys", text);
        }
    }
    check_origins(settings, found);
    if settings.expose && !settings.dev {
        let text = "needs --dev. Without it, server.listen decides who can reach the server";
        found.add("--expose", text.to_owned());
    }
    if settings.echo && !settings.dev {
        let text = "needs --dev, because it echoes the messages of any client".to_owned();
        found.add("--echo", text);
    }
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

fn check_origins(settings: &Settings, found: &mut Found) {
    for origin in &settings.client.allowed_origins {
        if matches_all_pages(origin) {
            if settings.dev {
                continue;
            }
            let text = format!(
                "= [{origin:?}] lets every web page connect with the rights of its visitor: list \
                 your own origins, such as [\"https://example.com\"]"
            );
            found.add("client.allowed_origins", text);
        } else if admits_strangers(origin) && !settings.dev {
            let text = format!(
                "has {origin:?}, which matches hosts that anyone can register: let the * stand \
                 before a domain of your own, as in \"https://*.example.com\", or before an ending \
                 of private networks, as in \"http://*.localhost\""
            );
            found.add("client.allowed_origins", text);
        } else if !is_origin_pattern(origin) {
            let text = format!(
                "has {origin:?}, which is not an origin: use scheme and host, and the port unless \
                 it is the default, without a path, such as \"https://example.com\". Pages without \
                 a host are \"null\" and \"file://\""
            );
            found.add("client.allowed_origins", text);
        }
    }
}

/// Finds hosts and paths that no request can have.
pub(super) fn check_paths(settings: &Settings, found: &mut Found) {
    for host in settings.server.hosts.iter().filter(|host| !is_host_pattern(host)) {
        let text = format!(
            "has {host:?}, which is not a host: use a name or an address without scheme and port, \
             such as \"example.com\", \"*.example.com\", \"10.0.0.5\" or \"[::1]\""
        );
        found.add("server.hosts", text);
    }
    let is_open = |host: &&String| is_host_pattern(host) && is_rebindable(host);
    for host in settings.server.hosts.iter().filter(is_open) {
        let text = format!(
            "has {host:?}, which matches names that anyone can register and point at this server: \
             let the * stand before a domain of your own, as in \"*.example.com\""
        );
        found.add("server.hosts", text);
    }
    let prefix = &settings.server.path_prefix;
    let is_path_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let is_path = prefix.starts_with('/')
        && !prefix.ends_with('/')
        && !prefix.contains("//")
        && prefix.bytes().all(is_path_byte);
    if !prefix.is_empty() && (!is_path || prefix.len() > SETTING_PATH_PREFIX_BYTES_MAX) {
        let text = format!(
            "= {prefix:?} is not a path: begin it with a slash and end it without one, such as \
             \"/realtime\", with letters, digits and -._~ and at most \
             {SETTING_PATH_PREFIX_BYTES_MAX} bytes"
        );
        found.add("server.path_prefix", text);
    }
}
