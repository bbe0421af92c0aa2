//! Certificates that an action writes, issued when it runs.

use std::collections::BTreeMap;

use secrecy::SecretString;
use time::OffsetDateTime;

use super::script::Materials;
use crate::desired::model::{Desired, Node};
use crate::observe::Operator;
use crate::observed::certificate::member_names;
use crate::pki::{self, Authority};
use crate::runtime::Profile;

/// Issues for one node.
pub struct Issuer<'a> {
    desired: &'a Desired,
    node: Option<&'a Node>,
    operator: &'a Operator,
    authority: Option<Authority>,
    issued: BTreeMap<Profile, (String, SecretString)>,
}

impl<'a> Issuer<'a> {
    /// An issuer for the node of this name.
    pub fn new(desired: &'a Desired, node: &str, operator: &'a Operator) -> Self {
        Self {
            desired,
            node: desired.nodes.iter().find(|found| found.name == node),
            operator,
            authority: None,
            issued: BTreeMap::new(),
        }
    }
}

impl Materials for Issuer<'_> {
    fn authority(&self) -> Result<String, String> {
        match self.operator.authority() {
            Ok(Some(authority)) => Ok(authority.pem().to_owned()),
            Ok(None) => Err("there is no authority here".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn pair(&mut self, profile: Profile) -> Result<(String, SecretString), String> {
        if let Some(pair) = self.issued.get(&profile) {
            return Ok(pair.clone());
        }
        let node = self.node.ok_or("the node is not in the cluster file")?;
        if self.authority.is_none() {
            let authority = self.operator.open_authority();
            self.authority = Some(authority.map_err(|error| error.to_string())?);
        }
        let authority = self.authority.as_ref().ok_or("there is no authority")?;
        let leaf = &self.desired.tls.leaf;
        let issued = pki::issue(
            authority,
            profile,
            &member_names(node),
            leaf.key,
            leaf.validity,
            OffsetDateTime::now_utc(),
        )
        .map_err(|error| error.to_string())?;
        let pair = (issued.cert_pem, issued.key_pem);
        self.issued.insert(profile, pair.clone());
        Ok(pair)
    }
}
