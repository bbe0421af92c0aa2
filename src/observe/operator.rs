//! The operator's own side: release archives and the managed authority.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::artifact::{self, Archive};
use crate::desired::model::{CaEncryption, Desired, Install, TlsMode, VersionSpec};
use crate::observed::ArchiveFact;
use crate::observed::certificate::CaFacts;
use crate::pki::{
    self, Authority, AuthorityCertificate, KeyProtection, NewAuthority, OperatorCertificate,
    PkiError,
};
use crate::remote::EtcdTls;
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
    pub fn open_authority(&self) -> Result<Authority, String> {
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
        .map_err(|error| error.to_string())
    }

    fn protection(&self) -> Result<KeyProtection, String> {
        match &self.desired.tls.ca.encryption {
            None => Ok(KeyProtection::Plain),
            Some(CaEncryption::Passphrase(reference)) => {
                let passphrase = self
                    .secrets
                    .resolve(reference, "passphrase of the CA key")?;
                Ok(KeyProtection::Passphrase(passphrase))
            }
            Some(CaEncryption::Recipient {
                recipient,
                identity,
            }) => Ok(KeyProtection::Recipient {
                recipient: recipient.clone(),
                identity: self
                    .secrets
                    .resolve(identity, "age identity of the CA key")?,
            }),
        }
    }

    /// The operator's own certificate for talking to members; `None` under plain HTTP, or while there is no authority.
    pub fn etcd_tls(&self) -> Result<Option<EtcdTls>, String> {
        if self.desired.tls.client != TlsMode::Managed {
            return Ok(None);
        }
        let Some(authority) = self.authority().map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let certificate = self.operator_certificate(&authority)?;
        Ok(Some(EtcdTls {
            ca_pem: authority.pem().to_owned(),
            identity: Some((certificate.cert_pem, certificate.key_pem)),
        }))
    }

    fn operator_certificate(
        &self,
        authority: &AuthorityCertificate,
    ) -> Result<OperatorCertificate, String> {
        let ca = &self.desired.tls.ca;
        let failed: std::cell::RefCell<Option<String>> = std::cell::RefCell::default();
        pki::ensure_operator(
            &ca.dir,
            authority,
            self.desired.tls.leaf.key,
            OffsetDateTime::now_utc(),
            || {
                let protection = self.protection().map_err(|error| {
                    failed.replace(Some(error));
                    PkiError::NoAuthority {
                        dir: ca.dir.clone(),
                    }
                })?;
                Authority::open_key(&ca.dir, &protection)
            },
        )
        .map_err(|error| failed.take().unwrap_or_else(|| error.to_string()))
    }
}
