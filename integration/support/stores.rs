//! Real stores for archived snapshots: S3 and WebDAV, with and without TLS.

use super::{peers::Peers, wait_until};
use netdiag::http::{client, parse_url};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// An authority of a site, and a certificate of its for a server at 127.0.0.1.
pub struct Authority {
    ca_file: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    /// With its files in this directory, by its name.
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut authority = CertificateParams::new([]).unwrap();
        authority.distinguished_name.push(DnType::CommonName, name);
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let file = |what: &str, pem: String| {
            let path = dir.join(format!("{name}-{what}.pem"));
            fs::write(&path, pem).unwrap();
            path
        };
        Self {
            ca_file: file("authority", authority.pem()),
            certificate: file("server", server.pem()),
            key: file("key", key.serialize_pem()),
        }
    }

    /// The authority's own certificate.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }
}

/// A store that runs until it is dropped.
pub struct Store(Child);

impl Store {
    fn begin(mut command: Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let store = Self(child);
        wait_until("the store listens", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_ok());
        store
    }

    /// An S3 store with a bucket `site`. With `strict` it knows no user, and asks for one as soon as the bucket is made.
    pub async fn s3(peers: &Peers, port: u16, authority: Option<&Authority>, strict: bool) -> Self {
        let mut command = Command::new(peers.program("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        if strict {
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", "1");
        }
        if let Some(authority) = authority {
            command.arg("--ssl-cert").arg(&authority.certificate).arg("--ssl-key").arg(&authority.key);
        }
        let store = Self::begin(command, port);
        let scheme = if authority.is_some() { "https" } else { "http" };
        let url = parse_url(&format!("{scheme}://127.0.0.1:{port}/site")).unwrap();
        let made = client(&url, authority.map(Authority::ca_file)).unwrap().put(url).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
        store
    }

    /// A WebDAV server with a user `plant` and the password `hunter2`.
    pub fn dav(peers: &Peers, port: u16, authority: Option<&Authority>, dir: &Path) -> Self {
        let root = dir.join("dav");
        fs::create_dir_all(root.join("netdiag")).unwrap();
        let config = dir.join("dav.json");
        let mut settings = json!({
            "host": "127.0.0.1", "port": port, "provider_mapping": {"/": root},
            "http_authenticator": {"domain_controller": null, "accept_basic": true, "accept_digest": false, "default_to_digest": false},
            "simple_dc": {"user_mapping": {"*": {"plant": {"password": "hunter2"}}}},
        });
        if let Some(authority) = authority {
            settings["ssl_certificate"] = json!(authority.certificate);
            settings["ssl_private_key"] = json!(authority.key);
        }
        fs::write(&config, settings.to_string()).unwrap();
        let mut command = Command::new(peers.program("wsgidav"));
        command.arg("--config").arg(config);
        Self::begin(command, port)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
