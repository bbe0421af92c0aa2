//! `[auth]`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::secret::{self, Secret};
use crate::desired::diagnostic::Sink;
use crate::desired::model::Access;
use crate::desired::read::{At, Choice, Section, Span, Taken};

/// Users, roles and whether authentication is on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Whether authentication is on.
    #[schemars(required)]
    pub enabled: Option<At<bool>>,
    /// A role and what it grants. The role `root` is built into etcd.
    pub role: Option<Vec<Role>>,
    /// A user and its roles.
    pub user: Option<Vec<User>>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) header: Span,
    /// Whether a role or user was left out because it could not be read.
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) incomplete: bool,
}

/// A role and what it grants.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// Name of the role.
    #[schemars(required)]
    pub name: Option<At<String>>,
    /// What it permits.
    pub grant: Option<Vec<Grant>>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) header: Span,
}

/// A permission: exactly one of `key`, `prefix`, `range` and `from_key`, and `access`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["key"]}, {"required": ["prefix"]}, {"required": ["range"]}, {"required": ["from_key"]},
]))]
pub struct Grant {
    /// One key.
    pub key: Option<At<String>>,
    /// Every key that starts with this.
    pub prefix: Option<At<String>>,
    /// From the first, inclusive, to the second, exclusive.
    #[schemars(length(min = 2, max = 2))]
    pub range: Option<Vec<At<String>>>,
    /// Every key from this one on.
    pub from_key: Option<At<String>>,
    /// What may be done.
    #[schemars(required)]
    pub access: Option<Choice<Access>>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) header: Span,
}

/// A user and its roles.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Name of the user.
    #[schemars(required)]
    pub name: Option<At<String>>,
    /// Names of its roles. The user `root` has the role `root` in any case.
    pub roles: Option<Vec<At<String>>>,
    /// Where its password comes from (`env`, `file` or `command`). Without one only a client certificate
    /// with this common name logs in.
    pub password: Option<Secret>,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) header: Span,
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) password_broken: bool,
}

pub(crate) fn read(mut table: Section<'_>, sink: &mut Sink) -> Option<Auth> {
    let role_tables = table.take_tables("role", sink);
    let user_tables = table.take_tables("user", sink);
    let expected = (role_tables.len(), user_tables.len());
    let roles: Vec<Role> = role_tables
        .into_iter()
        .flatten()
        .filter_map(|t| read_role(t, sink))
        .collect();
    let users: Vec<User> = user_tables
        .into_iter()
        .flatten()
        .filter_map(|t| read_user(t, sink))
        .collect();
    let incomplete = expected != (roles.len(), users.len());
    let header = table.span.clone();
    let auth = table.finish::<Auth>(sink)?;
    Some(Auth {
        role: Some(roles),
        user: Some(users),
        header,
        incomplete,
        ..auth
    })
}

fn read_role(mut table: Section<'_>, sink: &mut Sink) -> Option<Role> {
    let grants = table
        .take_tables("grant", sink)
        .into_iter()
        .flatten()
        .filter_map(|t| {
            let header = t.span.clone();
            t.finish::<Grant>(sink).map(|g| Grant { header, ..g })
        })
        .collect();
    let header = table.span.clone();
    let role = table.finish::<Role>(sink)?;
    Some(Role {
        grant: Some(grants),
        header,
        ..role
    })
}

fn read_user(mut table: Section<'_>, sink: &mut Sink) -> Option<User> {
    let password = secret::take(&mut table, "password", sink);
    let header = table.span.clone();
    let password_broken = matches!(password, Taken::Broken);
    let user = table.finish::<User>(sink)?;
    Some(User {
        password: password.ok(),
        header,
        password_broken,
        ..user
    })
}
