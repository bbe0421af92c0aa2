//! The way to a member: tunnel or direct connection, TLS, first answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::Client;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri};

use super::error::TunnelError;
use super::etcd::{EtcdClient, judge, member_status};
use super::etcd_error::{EtcdError, EtcdErrorKind};
use super::host::Host;

/// For tunnel, TLS and first answer.
const CONNECT: Duration = Duration::from_secs(10);
/// For a direct connection.
const DIRECT: Duration = Duration::from_secs(4);

/// Where a member answers.
#[derive(Clone)]
pub struct EtcdEndpoint {
    /// Its advertised client URL; the certificate is checked against its host.
    pub url: String,
    /// Address and port as seen from its own host.
    pub dial: (String, u16),
    /// Required for `https`.
    pub tls: Option<EtcdTls>,
}

/// Certificates of a client.
#[derive(Clone)]
pub struct EtcdTls {
    /// CA bundle that the server's certificate must come from.
    pub ca_pem: String,
    /// Our certificate and its key, where client certificates are wanted.
    pub identity: Option<(String, SecretString)>,
}

impl EtcdClient {
    /// Connects and asks for a first status: over a tunnel, or where sshd forbids it directly to
    /// the advertised address.
    ///
    /// # Errors
    /// See [`EtcdErrorKind`].
    pub async fn connect(host: &Host, endpoint: &EtcdEndpoint) -> Result<Self, EtcdError> {
        let node = host.node().to_owned();
        let call = "connect to etcd";
        let error = |kind| EtcdError {
            node: node.clone(),
            call,
            kind,
            ambiguous: false,
        };
        let settings = |reason: String| error(EtcdErrorKind::Settings(reason));
        let uri: Uri = endpoint
            .url
            .parse()
            .map_err(|_| settings(format!("`{}` is no URL", endpoint.url)))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => {
                return Err(settings(format!(
                    "`{}` is neither http nor https",
                    endpoint.url
                )));
            }
        };
        let name = uri
            .host()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_owned();
        let direct = (
            name.clone(),
            uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        );
        let mut channel = Endpoint::from(uri).tcp_nodelay(true);
        if tls {
            let given = endpoint
                .tls
                .as_ref()
                .ok_or_else(|| settings("https without certificates".into()))?;
            channel = channel
                .tls_config(tls_config(given, name))
                .map_err(|cause| error(EtcdErrorKind::of_transport(&cause, true)))?;
        }
        let failed: Arc<Mutex<Option<EtcdErrorKind>>> = Arc::default();
        let connector = {
            let (host, dial, failed) = (host.clone(), endpoint.dial.clone(), failed.clone());
            tower::service_fn(move |_: Uri| {
                let (host, dial, direct, failed) =
                    (host.clone(), dial.clone(), direct.clone(), failed.clone());
                async move {
                    open(&host, &dial, &direct)
                        .await
                        .map(TokioIo::new)
                        .map_err(|kind| {
                            let error = std::io::Error::other(kind.to_string());
                            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(kind);
                            error
                        })
                }
            })
        };
        let connected = tokio::time::timeout(CONNECT, async {
            let channel = channel
                .connect_with_connector(connector)
                .await
                .map_err(|cause| {
                    let known = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
                    known.unwrap_or_else(|| EtcdErrorKind::of_transport(&cause, tls))
                })?;
            let client = Client::from_channel(etcd_client::Channel::Tonic(channel), None).await;
            let mut client = client.map_err(|cause| judge(&cause, tls).0)?;
            // The client is lazy: only an answer shows that somebody is there.
            let mut answer = client.status().await;
            if let (true, Err(cause)) = (tls, &answer)
                && let (EtcdErrorKind::Unavailable(_), _) = judge(cause, tls)
            {
                // Under TLS 1.3 a member refuses a client certificate after the handshake, by an
                // alert that may come too late to be seen, but hardly twice.
                answer = client.status().await;
            }
            let anonymous = endpoint
                .tls
                .as_ref()
                .is_some_and(|tls| tls.identity.is_none());
            let status = answer.map_err(|cause| match judge(&cause, tls).0 {
                EtcdErrorKind::Unavailable(_) if anonymous => EtcdErrorKind::CertificateRejected(
                    "the member hung up, probably for want of a client certificate".into(),
                ),
                kind => kind,
            })?;
            Ok((client, member_status(&status)))
        });
        let (client, first) = connected
            .await
            .map_err(|_| {
                error(EtcdErrorKind::Timeout {
                    seconds: CONNECT.as_secs(),
                })
            })?
            .map_err(error)?;
        Ok(Self {
            node,
            client,
            tls,
            failed,
            first,
        })
    }
}

fn tls_config(tls: &EtcdTls, name: String) -> ClientTlsConfig {
    let config = ClientTlsConfig::new()
        .domain_name(name)
        .ca_certificate(Certificate::from_pem(&tls.ca_pem));
    match &tls.identity {
        Some((certificate, key)) => {
            config.identity(Identity::from_pem(certificate, key.expose_secret()))
        }
        None => config,
    }
}

/// A tunnel or a direct connection.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for T {}

async fn open(
    host: &Host,
    dial: &(String, u16),
    direct: &(String, u16),
) -> Result<Box<dyn Stream>, EtcdErrorKind> {
    let tunnel = match host.tunnel(&dial.0, dial.1).await {
        Ok(tunnel) => return Ok(Box::new(tunnel)),
        Err(tunnel @ TunnelError::Prohibited { .. }) => tunnel,
        Err(tunnel) => {
            return Err(EtcdErrorKind::Tunnel {
                tunnel,
                direct: None,
            });
        }
    };
    let stream = tokio::time::timeout(
        DIRECT,
        tokio::net::TcpStream::connect((direct.0.as_str(), direct.1)),
    );
    let reason = match stream.await {
        Ok(Ok(stream)) => {
            // Only speed is at stake.
            let _ = stream.set_nodelay(true);
            return Ok(Box::new(stream));
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no connection within {} s", DIRECT.as_secs()),
    };
    let direct = Some(format!("{}:{}: {reason}", direct.0, direct.1));
    Err(EtcdErrorKind::Tunnel { tunnel, direct })
}
