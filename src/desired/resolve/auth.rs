//! `[auth]`.

use std::collections::BTreeMap;

use super::{Paths, values};
use crate::desired::diagnostic::Sink;
use crate::desired::file::auth as file;
use crate::desired::model::{Access, Auth, AuthUser, Grant, GrantKeys, SecretRef, Tls, TlsMode};
use crate::desired::read::{At, Span, nearest};

/// etcd's built-in role and the user that must have it.
const ROOT: &str = "root";

pub(crate) fn resolve(
    table: &file::Auth,
    tls: Option<&Tls>,
    paths: &Paths<'_>,
    sink: &mut Sink,
) -> Option<Auth> {
    let enabled = values::require(table.enabled.as_ref(), "enabled", &table.header, sink);
    let roles = roles(table, sink);
    let users = users(table, paths, sink);
    if let Some(at) = enabled.filter(|e| e.value) {
        enabling(table, at, users.as_ref(), tls, sink);
    }
    Some(Auth {
        enabled: enabled?.value,
        roles: roles?,
        users: users?,
    })
}

fn is_name(at: &At<String>, sink: &mut Sink) -> bool {
    let good = (1..=128).contains(&at.value.len())
        && !at
            .value
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == ':' || c == ',');
    if !good {
        sink.error("bad name", &at.span)
            .label("expected one word, without `:` and `,`");
    }
    good
}

fn roles(table: &file::Auth, sink: &mut Sink) -> Option<BTreeMap<String, Vec<Grant>>> {
    let mut roles = BTreeMap::new();
    let mut first: BTreeMap<&str, &Span> = BTreeMap::new();
    let mut good = !table.incomplete;
    for role in table.role.iter().flatten() {
        let grants: Option<Vec<Grant>> = {
            let all: Vec<Option<Grant>> = role
                .grant
                .iter()
                .flatten()
                .map(|g| grant(g, sink))
                .collect();
            all.into_iter().collect()
        };
        let Some(name) = values::require(role.name.as_ref(), "name", &role.header, sink) else {
            good = false;
            continue;
        };
        good &= is_name(name, sink);
        if name.value == ROOT {
            good = false;
            sink.error("built-in role", &name.span)
                .label("etcd has it already, and it may do everything")
                .help("leave the role out; users can have it");
        }
        if let Some(other) = first.insert(&name.value, &name.span) {
            good = false;
            sink.error("duplicate name", &name.span)
                .label("two roles have it")
                .also(other, "first here");
        }
        match grants {
            Some(mut grants) => {
                grants.sort();
                grants.dedup();
                roles.insert(name.value.clone(), grants);
            }
            None => good = false,
        }
    }
    good.then_some(roles)
}

fn grant(table: &file::Grant, sink: &mut Sink) -> Option<Grant> {
    let access: Option<Access> =
        values::require(table.access.as_ref(), "access", &table.header, sink)
            .and_then(|a| a.resolve(sink));
    let given = [
        table.key.is_some(),
        table.prefix.is_some(),
        table.range.is_some(),
        table.from_key.is_some(),
    ];
    if given.iter().filter(|g| **g).count() != 1 {
        sink.error("bad grant", &table.header)
            .label("expected exactly one of `key`, `prefix`, `range`, `from_key`");
        return None;
    }
    let keys = if let Some(key) = &table.key {
        if key.value.is_empty() {
            sink.error("bad grant", &key.span)
                .label("etcd has no empty key");
            return None;
        }
        GrantKeys::Key(key.value.clone())
    } else if let Some(prefix) = &table.prefix {
        GrantKeys::Prefix(prefix.value.clone())
    } else if let Some(from) = &table.from_key {
        GrantKeys::FromKey(from.value.clone())
    } else {
        match table.range.as_deref() {
            Some([from, to]) if from.value < to.value => {
                GrantKeys::Range(from.value.clone(), to.value.clone())
            }
            Some([from, to]) => {
                sink.error("bad grant", &to.span)
                    .label("not behind the first key, so the range is empty")
                    .also(&from.span, "the first key");
                return None;
            }
            _ => {
                let span = table
                    .range
                    .iter()
                    .flatten()
                    .next()
                    .map_or(&table.header, |k| &k.span);
                sink.error("bad grant", span)
                    .label("expected two keys: the first, and the one behind the last");
                return None;
            }
        }
    };
    Some(Grant {
        keys,
        access: access?,
    })
}

fn users(
    table: &file::Auth,
    paths: &Paths<'_>,
    sink: &mut Sink,
) -> Option<BTreeMap<String, AuthUser>> {
    // By name alone: a role with a wrong grant is defined all the same.
    let defined: Vec<&str> = (table.role.iter().flatten())
        .filter_map(|role| Some(role.name.as_ref()?.value.as_str()))
        .chain([ROOT])
        .collect();
    let mut users = BTreeMap::new();
    let mut first: BTreeMap<&str, &Span> = BTreeMap::new();
    let mut good = true;
    for user in table.user.iter().flatten() {
        let password = match &user.password {
            None => {
                good &= !user.password_broken;
                None
            }
            Some(reference) => {
                let resolved = values::secret(reference, paths, sink);
                if resolved == Some(SecretRef::Prompt) {
                    good = false;
                    sink.error("bad secret reference", &reference.key)
                        .label("`prompt` is not for passwords of users, which every run needs")
                        .help("use `env`, `file` or `command`");
                }
                good &= resolved.is_some();
                resolved
            }
        };
        let Some(name) = values::require(user.name.as_ref(), "name", &user.header, sink) else {
            good = false;
            continue;
        };
        good &= is_name(name, sink);
        if let Some(other) = first.insert(&name.value, &name.span) {
            good = false;
            sink.error("duplicate name", &name.span)
                .label("two users have it")
                .also(other, "first here");
        }
        let mut names: Vec<String> = Vec::new();
        for role in user.roles.iter().flatten() {
            if !table.incomplete && !defined.contains(&role.value.as_str()) {
                good = false;
                let error = sink
                    .error("unknown role", &role.span)
                    .label("no [[auth.role]] has this name");
                if let Some(near) = nearest(&role.value, defined.iter().copied()) {
                    error.help(format!("did you mean \"{near}\"?"));
                }
            }
            names.push(role.value.clone());
        }
        // Without it etcd refuses to enable authentication.
        if name.value == ROOT {
            names.push(ROOT.to_owned());
        }
        names.sort();
        names.dedup();
        users.insert(
            name.value.clone(),
            AuthUser {
                roles: names,
                password,
            },
        );
    }
    good.then_some(users)
}

fn enabling(
    table: &file::Auth,
    enabled: &At<bool>,
    users: Option<&BTreeMap<String, AuthUser>>,
    tls: Option<&Tls>,
    sink: &mut Sink,
) {
    let Some(users) = users.filter(|_| !table.incomplete) else {
        return;
    };
    if !users.contains_key(ROOT) {
        sink.error("no user root", &enabled.span)
            .label("etcd enables authentication only when there is a user `root`")
            .help("add\n[[auth.user]]\nname = \"root\"");
    }
    let Some(tls) = tls else { return };
    if tls.client != TlsMode::Off {
        return;
    }
    for user in table.user.iter().flatten() {
        if let (Some(name), None, false) = (&user.name, &user.password, user.password_broken) {
            sink.error("user cannot log in", &name.span)
                .label("it has no password, and without TLS there are no certificates")
                .help("give it a password, or set client = \"managed\" in [tls]");
        }
    }
    sink.warning("passwords in the open", &enabled.span)
        .label("clients send passwords and tokens over plain HTTP")
        .help("set client = \"managed\" in [tls]");
}
