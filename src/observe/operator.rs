//! The operator's own side: release archives and the managed authority.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::artifact::{self, Archive};
use crate::desired::model::{CaEncryption, Desired, Install, SecretRef, TlsMode, VersionSpec};
use crate::observed::ArchiveFact;
use crate::observed::certificate::CaFacts;
use crate::pki::{
    self, Authority, AuthorityCertificate, ClientFiles, KeyProtection, NewAuthority, NewClient,
    OperatorCertificate, PkiError,
};
use crate::remote::EtcdTls;
use crate::runtime;
use crate::secret::SecretSource;

/// The operator's side of a run.
#[derive(Clone)]
pub struct Operator {
    desired: Arc<Desired>,
    secrets: Arc<dyn SecretSource>,
    cache: PathBuf,
}

impl Operator {
    /// The operator's side under a desired state.
    pub fn new(desired: Arc<Desired>, secrets: Arc<dyn SecretSource>, cache: PathBuf) -> Self {
        Self {
            desired,
            secrets,
            cache,
        }
    }

    /// The desired state.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    fn is_managed(&self) -> bool {
        let tls = &self.desired.tls;
        tls.client == TlsMode::Managed || tls.peer == TlsMode::Managed
    }

    /// The archives for these architectures, or why they cannot be had.
    pub async fn archives(
        &self,
        arches: &BTreeSet<String>,
    ) -> BTreeMap<String, Result<ArchiveFact, String>> {
        let mut archives = BTreeMap::new();
        if let Install::Archive { .. } = self.desired.etcd.install {
            for arch in arches {
                let fact = self.archive(arch).await.map(|archive| archive.fact);
                archives.insert(arch.clone(), fact);
            }
        }
        archives
    }

    /// What the authority's certificates say, if there are readable ones here.
    pub fn authority_facts(&self) -> Option<CaFacts> {
        let authority = self.authority().ok().flatten()?;
        Some(authority.facts().clone())
    }

    /// The verified archive for an architecture, fetched once.
    pub async fn archive(&self, arch: &str) -> Result<Archive, String> {
        let (desired, cache, arch) = (self.desired.clone(), self.cache.clone(), arch.to_owned());
        let VersionSpec::Exact(version) = desired.etcd.version.clone() else {
            return Err("an archive needs an exact version".into());
        };
        tokio::task::spawn_blocking(move || {
            artifact::fetch(
                &desired.etcd.install,
                &version,
                &arch,
                &desired.base_dir,
                &cache,
            )
            .map_err(|error| error.to_string())
        })
        .await
        .map_err(|error| error.to_string())?
    }

    /// The authority's certificate, if there is one here.
    pub fn authority(&self) -> Result<Option<AuthorityCertificate>, PkiError> {
        if !self.is_managed() {
            return Ok(None);
        }
        Authority::load_certificate(&self.desired.tls.ca.dir)
    }

    /// Creates the authority, or opens its key.
    ///
    /// # Errors
    /// As of [`Authority::create_or_open`], and when a secret that opens the key cannot be had.
    pub fn open_authority(&self) -> Result<Authority, PkiError> {
        let ca = &self.desired.tls.ca;
        let new = NewAuthority {
            cluster: &self.desired.cluster.name,
            key: ca.key,
            validity: ca.validity,
        };
        Authority::create_or_open(
            &ca.dir,
            &new,
            &self.protection()?,
            OffsetDateTime::now_utc(),
        )
    }

    fn protection(&self) -> Result<KeyProtection, PkiError> {
        let resolve = |reference: &SecretRef, purpose: &str| {
            self.secrets
                .resolve(reference, purpose)
                .map_err(|why| PkiError::Secret { why })
        };
        match &self.desired.tls.ca.encryption {
            None => Ok(KeyProtection::Plain),
            Some(CaEncryption::Passphrase(reference)) => {
                let passphrase = resolve(reference, "passphrase of the CA key")?;
                Ok(KeyProtection::Passphrase(passphrase))
            }
            Some(CaEncryption::Recipient {
                recipient,
                identity,
            }) => Ok(KeyProtection::Recipient {
                recipient: recipient.clone(),
                identity: resolve(identity, "age identity of the CA key")?,
            }),
        }
    }

    /// The operator's own certificate for talking to members; `None` under plain HTTP, or while there is no authority.
    /// The second value is a warning: it will not do for much longer.
    ///
    /// # Errors
    /// In words, when there is none that works and none can be issued.
    pub fn etcd_tls(&self) -> Result<(Option<EtcdTls>, Option<String>), String> {
        if self.desired.tls.client != TlsMode::Managed {
            return Ok((None, None));
        }
        let Some(authority) = self.authority().map_err(|error| error.to_string())? else {
            return Ok((None, None));
        };
        let (certificate, missing) = self
            .operator_certificate(&authority)
            .map_err(|error| error.to_string())?;
        let warning = missing.map(|error| {
            let reasons = certificate.reasons.iter().map(ToString::to_string);
            format!(
                "the operator's certificate is due ({}), and no other can be issued: {error}",
                reasons.collect::<Vec<_>>().join(", ")
            )
        });
        let tls = EtcdTls {
            ca_pem: authority.pem().to_owned(),
            identity: Some((certificate.cert_pem, certificate.key_pem)),
        };
        Ok((Some(tls), warning))
    }

    fn operator_certificate(
        &self,
        authority: &AuthorityCertificate,
    ) -> Result<(OperatorCertificate, Option<PkiError>), PkiError> {
        let dir = &self.desired.tls.ca.dir;
        pki::ensure_operator(
            dir,
            authority,
            self.desired.tls.leaf.key,
            OffsetDateTime::now_utc(),
            || Authority::open_key(dir, &self.protection()?),
        )
    }

    /// Sees to the certificates of people and programs, by name.
    ///
    /// # Errors
    /// As of [`pki::ensure_client`] and [`Operator::open_authority`].
    pub fn client_certificates(&self) -> Result<Vec<(String, ClientFiles)>, PkiError> {
        let desired = &self.desired;
        if desired.tls.client != TlsMode::Managed {
            return Ok(vec![]);
        }
        let Some(authority) = self.authority()? else {
            return Ok(vec![]);
        };
        let endpoints: Vec<String> = desired
            .nodes
            .iter()
            .map(|node| runtime::layout(desired, node).client_url)
            .collect();
        let clients = desired.tls.client_certs.iter().map(|client| {
            let new = NewClient {
                name: &client.name,
                key: desired.tls.leaf.key,
                validity: client.validity.unwrap_or(desired.tls.leaf.validity),
                renew_before: desired.tls.leaf.renew_before,
                endpoints: &endpoints,
            };
            let now = OffsetDateTime::now_utc();
            let dir = &desired.tls.ca.dir;
            let files = pki::ensure_client(dir, &authority, &new, now, || self.open_authority())?;
            Ok((client.name.clone(), files))
        });
        clients.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Resolver;

    #[test]
    fn a_secret_that_is_missing_is_not_an_authority_that_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let text = "schema = 1\n[cluster]\nname = \"demo\"\n[etcd]\nversion = \"3.5.33\"\n\
                    [etcd.install]\nmethod = \"package\"\n\
                    [[node]]\nname = \"etcd-1\"\nip = \"10.0.0.1\"\n[tls]\nclient = \"managed\"\n\
                    [[tls.client_cert]]\nname = \"ops\"\n";
        let operator = |text: &str| {
            let (desired, _) = crate::desired::parse(text, "f.toml", dir.path(), None).unwrap();
            let secrets = Arc::new(Resolver::new());
            Operator::new(Arc::new(desired), secrets, dir.path().join("cache"))
        };
        operator(text).open_authority().map(drop).unwrap();
        let locked =
            format!("{text}[tls.ca.encryption]\npassphrase = {{ env = \"QUORATE_TEST_UNSET\" }}\n");
        let error = operator(&locked).client_certificates().unwrap_err();
        assert!(
            error
                .to_string()
                .contains("the environment variable QUORATE_TEST_UNSET is not set"),
            "{error}"
        );
        let written = operator(text).client_certificates().unwrap();
        assert_eq!(written[0].0, "ops");
        assert!(written[0].1.certificate.exists());
    }
}
