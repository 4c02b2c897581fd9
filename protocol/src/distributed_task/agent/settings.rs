//! The files that `config.sh` leaves: `.runner`, `.credentials` and `.credentials_rsaparams`, in their real form.

use std::io;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rsa::pkcs1::EncodeRsaPrivateKey;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{BigUint, RsaPrivateKey};
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::distributed_task::server::{Lifetime, Registered};
use crate::distributed_task::wire;
use crate::jwt::PrivateKey;

/// Name of the file with [`Settings`].
pub const SETTINGS_FILE: &str = ".runner";
/// The same, of Azure's agent.
pub const AGENT_FILE: &str = ".agent";
/// Name of the file with [`Credentials`].
pub const CREDENTIALS_FILE: &str = ".credentials";
/// Name of the file with the agent's private key.
pub const KEY_FILE: &str = ".credentials_rsaparams";

/// `.runner`: what the runner is registered as, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Its number.
    pub agent_id: i64,
    /// Its name.
    pub agent_name: String,
    /// Its pool's number.
    pub pool_id: i64,
    /// Its pool's name.
    #[serde(default)]
    pub pool_name: String,
    /// It takes one job and is forgotten.
    #[serde(default)]
    pub ephemeral: bool,
    /// It does not want to be updated.
    #[serde(default)]
    pub disable_update: bool,
    /// The tenant: base URL of the V1 server.
    pub server_url: String,
    /// Repository, organisation or enterprise.
    #[serde(default)]
    pub git_hub_url: String,
    /// Where jobs work.
    #[serde(default)]
    pub work_folder: String,
    /// Does it speak to the broker?
    #[serde(default, rename = "useV2Flow")]
    pub use_v2_flow: bool,
    /// Base URL of the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_url_v2: Option<String>,
    /// Base URL of the location service, on a host of its own (Azure).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location_url: Option<String>,
    /// An expired session is the end: do not open another one.
    #[serde(default)]
    pub skip_session_recover: bool,
}

/// `.credentials`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// `OAuth`.
    pub scheme: String,
    /// What the scheme needs.
    pub data: CredentialData,
}

/// The scheme's data. Truth values are texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialData {
    /// The agent's name at the token endpoint.
    pub client_id: String,
    /// The token endpoint.
    pub authorization_url: String,
    /// `True` asks for PS256 assertions and for RSA-OAEP with SHA-256.
    #[serde(default)]
    pub require_fips_cryptography: String,
}

impl CredentialData {
    /// Are assertions signed PS256?
    pub fn is_fips(&self) -> bool {
        self.require_fips_cryptography.eq_ignore_ascii_case("true")
    }
}

/// Everything that a registration leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// `.runner`.
    pub settings: Settings,
    /// `.credentials`.
    pub credentials: Credentials,
    /// `.credentials_rsaparams`.
    pub key: PrivateKey,
}

impl Configuration {
    /// What `config.sh` makes of a registration.
    pub fn of(registered: &Registered, agent_name: &str, key: PrivateKey) -> Self {
        let settings = Settings {
            agent_id: registered.agent_id,
            agent_name: agent_name.to_owned(),
            pool_id: registered.pool_id,
            pool_name: "Default".to_owned(),
            ephemeral: registered.lifetime == Lifetime::Ephemeral,
            disable_update: false,
            server_url: registered.tenant_url.clone(),
            git_hub_url: String::new(),
            work_folder: "_work".to_owned(),
            use_v2_flow: registered.server_url_v2.is_some(),
            server_url_v2: registered.server_url_v2.clone(),
            location_url: None,
            skip_session_recover: false,
        };
        let data = CredentialData {
            client_id: registered.client_id.to_string(),
            authorization_url: registered.authorization_url.clone(),
            require_fips_cryptography: if registered.server_url_v2.is_some() { "True" } else { "False" }.to_owned(),
        };
        Self { settings, credentials: Credentials { scheme: "OAuth".to_owned(), data }, key }
    }

    /// Reads the three files; the settings are in [`SETTINGS_FILE`] or [`AGENT_FILE`].
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when the runner is not configured, [`io::ErrorKind::InvalidData`] for what cannot be read.
    pub fn load(disk: &dyn Disk, settings_file: &str) -> io::Result<Self> {
        let settings = wire::from_slice(&disk.read(settings_file)?)?;
        let credentials = wire::from_slice(&disk.read(CREDENTIALS_FILE)?)?;
        let key = read_key(&disk.read(KEY_FILE)?)?;
        Ok(Self { settings, credentials, key })
    }

    /// Writes the three files, as `config.sh` does, so that they survive a crash.
    ///
    /// # Errors
    /// As the disk.
    pub fn store(&self, disk: &dyn Disk, settings_file: &str) -> io::Result<()> {
        let files = [
            (settings_file, serde_json::to_vec(&self.settings)?),
            (CREDENTIALS_FILE, serde_json::to_vec(&self.credentials)?),
            (KEY_FILE, serde_json::to_vec(&RsaParameters::from(&self.key))?),
        ];
        for (name, content) in files {
            disk.write(name, &content)?;
            disk.sync(name)?;
        }
        Ok(())
    }

    /// Deletes what ties the runner to its registration (`DeleteLocalRunnerConfig`).
    pub fn delete(disk: &dyn Disk, settings_file: &str) {
        for name in [CREDENTIALS_FILE, KEY_FILE, settings_file] {
            if let Err(error) = disk.remove(name) {
                tracing::warn!("cannot delete {name}: {error}");
            }
        }
    }
}

/// `.credentials_rsaparams`: big-endian numbers in base64.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RsaParameters {
    d: String,
    #[serde(rename = "dp")]
    dp: String,
    #[serde(rename = "dq")]
    dq: String,
    exponent: String,
    inverse_q: String,
    modulus: String,
    p: String,
    q: String,
}

impl From<&PrivateKey> for RsaParameters {
    fn from(key: &PrivateKey) -> Self {
        let key = key.rsa();
        let write = |number: &BigUint| BASE64_STANDARD.encode(number.to_bytes_be());
        let optional = |number: Option<&BigUint>| number.map(write).unwrap_or_default();
        let inverse = key.qinv().and_then(|number| number.to_biguint());
        Self {
            d: write(key.d()),
            dp: optional(key.dp()),
            dq: optional(key.dq()),
            exponent: write(key.e()),
            inverse_q: optional(inverse.as_ref()),
            modulus: write(key.n()),
            p: write(&key.primes()[0]),
            q: write(&key.primes()[1]),
        }
    }
}

fn read_key(bytes: &[u8]) -> io::Result<PrivateKey> {
    let invalid = |error: String| io::Error::new(io::ErrorKind::InvalidData, error);
    let parameters: RsaParameters = wire::from_slice(bytes)?;
    let number = |text: &str| match BASE64_STANDARD.decode(text) {
        Ok(bytes) => Ok(BigUint::from_bytes_be(&bytes)),
        Err(error) => Err(invalid(error.to_string())),
    };
    let primes = vec![number(&parameters.p)?, number(&parameters.q)?];
    let (n, e, d) = (number(&parameters.modulus)?, number(&parameters.exponent)?, number(&parameters.d)?);
    let key = RsaPrivateKey::from_components(n, e, d, primes).map_err(|error| invalid(error.to_string()))?;
    let pem = key.to_pkcs1_pem(rsa::pkcs8::LineEnding::LF).map_err(|error| invalid(error.to_string()))?;
    PrivateKey::from_pem(&pem).map_err(|error| invalid(error.to_string()))
}
