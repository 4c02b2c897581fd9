//! Signed assertions: how an agent proves who it is to a token endpoint (RFC 7523).
//!
//! Signing draws its salt from the generator that is handed in, and checking looks at the clock that is handed in; so
//! both repeat. Keys may have any size that holds a signature: 576 bits and more for PS256.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{DecodingKey, Validation};
use rand::RngCore;
use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPrivateKey};
use rsa::pkcs8::{DecodePrivateKey, LineEnding};
use rsa::sha2::{Digest, Sha256};
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, Pkcs1v15Sign, Pss, RsaPrivateKey, RsaPublicKey};
use serde::{Deserialize, Serialize};

use crate::random::Random;

/// How an assertion is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256: deterministic.
    Rs256,
    /// RSASSA-PSS with SHA-256: salted.
    Ps256,
}

impl Algorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }
}

/// What an assertion says. Times are seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Who is meant.
    pub sub: String,
    /// Who says so; the same for an agent.
    pub iss: String,
    /// Whom it is said to: the token endpoint.
    pub aud: String,
    /// Names this assertion.
    #[serde(default)]
    pub jti: String,
    /// Not to be accepted before.
    pub nbf: i64,
    /// Not to be accepted after.
    pub exp: i64,
}

/// An agent's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateKey(RsaPrivateKey);

/// The public half of an agent's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(RsaPublicKey);

/// Why something is no key, or no key for this purpose.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is no RSA key.
    #[error("not an RSA key: {0}")]
    NotRsa(String),
    /// The key is too small to sign or to encrypt with.
    #[error("a key of {bits} bits is too small")]
    TooSmall {
        /// Its size.
        bits: usize,
    },
}

/// Why an assertion is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("the assertion is malformed")]
    Malformed,
    /// Somebody else signed it.
    #[error("the signature is not valid")]
    Signature,
    /// It is said to somebody else.
    #[error("the audience is {0:?}")]
    Audience(String),
    /// The agent's clock is ahead, or the server's behind.
    #[error("the assertion is not valid until {not_before}")]
    NotYet {
        /// The assertion's `nbf`.
        not_before: Timestamp,
    },
    /// The agent's clock is behind, the server's ahead, or the assertion was long under way.
    #[error("the assertion expired at {expired}")]
    Expired {
        /// The assertion's `exp`.
        expired: Timestamp,
    },
}

impl PrivateKey {
    /// A fresh key of so many bits, drawn from `random`.
    ///
    /// # Errors
    /// [`KeyError::TooSmall`] below 569 bits.
    pub fn generate(bits: usize, random: &mut Random) -> Result<Self, KeyError> {
        large_enough(bits)?;
        RsaPrivateKey::new(&mut Drawn(random), bits).map(Self).map_err(|error| KeyError::NotRsa(error.to_string()))
    }

    /// Reads a key in PEM, of either usual kind (PKCS#1, PKCS#8).
    ///
    /// # Errors
    /// [`KeyError::NotRsa`], or [`KeyError::TooSmall`] below 569 bits.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = RsaPrivateKey::from_pkcs1_pem(pem).or_else(|_| RsaPrivateKey::from_pkcs8_pem(pem));
        let key = key.map_err(|error| KeyError::NotRsa(error.to_string()))?;
        large_enough(key.n().bits())?;
        Ok(Self(key))
    }

    /// The key in PEM (PKCS#1).
    pub fn to_pem(&self) -> String {
        self.0.to_pkcs1_pem(LineEnding::LF).map(|pem| pem.to_string()).expect("a valid key has an encoding")
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.to_public_key())
    }

    /// The key itself.
    pub fn rsa(&self) -> &RsaPrivateKey {
        &self.0
    }
}

/// The smallest key that holds a PS256 signature (two digests of 32 bytes and two bytes more), with some room.
const SMALLEST: usize = 569;

fn large_enough(bits: usize) -> Result<(), KeyError> {
    if bits < SMALLEST { Err(KeyError::TooSmall { bits }) } else { Ok(()) }
}

impl PublicKey {
    /// A key from its two big-endian numbers.
    ///
    /// # Errors
    /// [`KeyError::NotRsa`] when they make no key of at most 4096 bits, [`KeyError::TooSmall`] below 569 bits.
    pub fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let key = RsaPublicKey::new(BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent))
            .map_err(|error| KeyError::NotRsa(error.to_string()))?;
        large_enough(key.n().bits())?;
        Ok(Self(key))
    }

    /// The modulus, big-endian.
    pub fn modulus(&self) -> Vec<u8> {
        self.0.n().to_bytes_be()
    }

    /// The exponent, big-endian.
    pub fn exponent(&self) -> Vec<u8> {
        self.0.e().to_bytes_be()
    }

    /// The key itself.
    pub fn rsa(&self) -> &RsaPublicKey {
        &self.0
    }
}

/// A key and the way it signs: what an agent proves itself with.
#[derive(Clone, Debug)]
pub struct Signer {
    key: PrivateKey,
    algorithm: Algorithm,
}

impl Signer {
    /// Signs with `key`.
    pub fn new(key: PrivateKey, algorithm: Algorithm) -> Self {
        Self { key, algorithm }
    }

    /// An assertion of `client_id` for the token endpoint `audience`, valid from `now` (the signer's own wall time, cut
    /// to seconds) for `life`, with a drawn id.
    pub fn assertion(
        &self,
        client_id: impl ToString,
        audience: &str,
        now: Timestamp,
        life: Duration,
        random: &mut Random,
    ) -> String {
        let mut id = [0; 16];
        random.fill_bytes(&mut id);
        let claims = Claims {
            sub: client_id.to_string(),
            iss: client_id.to_string(),
            aud: audience.into(),
            jti: uuid::Builder::from_random_bytes(id).into_uuid().to_string(),
            nbf: now.as_second(),
            exp: now.as_second().saturating_add_unsigned(life.as_secs()),
        };
        sign(&claims, self.algorithm, &self.key, random)
    }

    /// The key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }
}

/// Signs an assertion.
pub fn sign(claims: &Claims, algorithm: Algorithm, key: &PrivateKey, random: &mut Random) -> String {
    let header = serde_json::json!({"alg": algorithm.name(), "typ": "JWT"});
    let claims = serde_json::to_vec(claims).expect("claims are plain JSON");
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", encode(header.to_string().as_bytes()), encode(&claims));
    let digest = Sha256::digest(signed.as_bytes());
    let signature = match algorithm {
        Algorithm::Rs256 => key.0.sign_with_rng(&mut Drawn(random), Pkcs1v15Sign::new::<Sha256>(), &digest),
        Algorithm::Ps256 => key.0.sign_with_rng(&mut Drawn(random), Pss::new::<Sha256>(), &digest),
    };
    format!("{signed}.{}", encode(&signature.expect("a key of this size holds either signature")))
}

/// What an assertion says, before anything about it is checked: it tells which key to check it with.
///
/// # Errors
/// [`Refused::Malformed`].
pub fn peek(assertion: &str) -> Result<Claims, Refused> {
    payload(assertion)
}

/// When a token ends, by its own word.
///
/// # Errors
/// [`Refused::Malformed`].
pub fn expiry(token: &str) -> Result<Timestamp, Refused> {
    #[derive(Deserialize)]
    struct Expiry {
        exp: i64,
    }
    let Expiry { exp } = payload(token)?;
    Timestamp::from_second(exp).map_err(|_| Refused::Malformed)
}

fn payload<T: serde::de::DeserializeOwned>(token: &str) -> Result<T, Refused> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Refused::Malformed);
    };
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).map_err(|_| Refused::Malformed)?;
    serde_json::from_slice(&claims).map_err(|_| Refused::Malformed)
}

/// Checks an assertion against the checker's own clock, which may differ from the signer's by `tolerance`.
///
/// # Errors
/// [`Refused`], for the first reason found: shape, signature, audience, then time.
pub fn check(
    assertion: &str,
    key: &PublicKey,
    audience: &str,
    now: Timestamp,
    tolerance: Duration,
) -> Result<Claims, Refused> {
    use jsonwebtoken::errors::ErrorKind;

    let decoding = DecodingKey::from_rsa_raw_components(&key.modulus(), &key.exponent());
    let decoded = jsonwebtoken::decode::<Claims>(assertion, &decoding, &validation());
    let claims = decoded.map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => Refused::Signature,
        _ => Refused::Malformed,
    })?;
    let claims = claims.claims;
    if claims.aud != audience {
        return Err(Refused::Audience(claims.aud));
    }
    let at = |second| Timestamp::from_second(second).map_err(|_| Refused::Malformed);
    let (not_before, expired) = (at(claims.nbf)?, at(claims.exp)?);
    match () {
        () if now.duration_until(not_before) > signed(tolerance) => Err(Refused::NotYet { not_before }),
        () if expired.duration_until(now) > signed(tolerance) => Err(Refused::Expired { expired }),
        () => Ok(claims),
    }
}

/// Only the signature is checked by the library: it would look at the wall clock of the process.
fn validation() -> Validation {
    let mut validation = Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.algorithms = vec![jsonwebtoken::Algorithm::RS256, jsonwebtoken::Algorithm::PS256];
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

fn signed(span: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(span).unwrap_or(jiff::SignedDuration::MAX)
}

/// The handed-in generator in the form that `rsa` asks for. It is as good as whoever handed it in made it.
pub struct Drawn<'a>(pub &'a mut Random);

impl rsa::rand_core::RngCore for Drawn<'_> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }
    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
    fn fill_bytes(&mut self, to: &mut [u8]) {
        self.0.fill_bytes(to);
    }
    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), rsa::rand_core::Error> {
        self.0.fill_bytes(to);
        Ok(())
    }
}

impl rsa::rand_core::CryptoRng for Drawn<'_> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const AUDIENCE: &str = "http://tokens/";

    fn random(seed: u64) -> Random {
        Box::new(ChaCha8Rng::seed_from_u64(seed))
    }

    fn claims(at: i64) -> Claims {
        let who = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
        Claims { sub: who.into(), iss: who.into(), aud: AUDIENCE.into(), jti: "1".into(), nbf: at, exp: at + 300 }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn both_algorithms_work_with_small_and_large_keys() {
        for bits in [576, 1024] {
            let key = PrivateKey::generate(bits, &mut random(1)).unwrap();
            for algorithm in [Algorithm::Rs256, Algorithm::Ps256] {
                let assertion = sign(&claims(1_000), algorithm, &key, &mut random(2));
                let read = check(&assertion, &key.public(), AUDIENCE, at(1_000), Duration::ZERO);
                assert_eq!(read, Ok(claims(1_000)), "{algorithm:?} with {bits} bits");
                assert_eq!(peek(&assertion), Ok(claims(1_000)));
            }
        }
        assert_eq!(PrivateKey::generate(512, &mut random(1)), Err(KeyError::TooSmall { bits: 512 }));
    }

    #[test]
    fn one_seed_gives_one_assertion() {
        let key = PrivateKey::generate(576, &mut random(1)).unwrap();
        let sign = |seed| sign(&claims(0), Algorithm::Ps256, &key, &mut random(seed));
        assert_eq!(sign(5), sign(5));
        assert_ne!(sign(5), sign(6));
        assert_eq!(key, PrivateKey::generate(576, &mut random(1)).unwrap());
    }

    #[test]
    fn keys_survive_pem_and_numbers() {
        let key = PrivateKey::generate(576, &mut random(3)).unwrap();
        assert_eq!(PrivateKey::from_pem(&key.to_pem()).unwrap(), key);
        let public = key.public();
        assert_eq!(PublicKey::new(&public.modulus(), &public.exponent()).unwrap(), public);
        assert!(PrivateKey::from_pem("no key").is_err());
        assert!(PublicKey::new(&[], &[]).is_err());
        assert!(matches!(PublicKey::new(&[0xff; 32], &[1, 0, 1]), Err(KeyError::TooSmall { .. })));
    }

    #[test]
    fn a_wrong_clock_is_refused_beyond_the_tolerance() {
        let key = PrivateKey::generate(576, &mut random(1)).unwrap();
        let assertion = sign(&claims(1_000), Algorithm::Rs256, &key, &mut random(2));
        let tolerance = Duration::from_secs(300);
        let check = |now| check(&assertion, &key.public(), AUDIENCE, at(now), tolerance);
        assert_eq!(check(699), Err(Refused::NotYet { not_before: at(1_000) }));
        assert!(check(700).is_ok());
        assert!(check(1_600).is_ok());
        assert_eq!(check(1_601), Err(Refused::Expired { expired: at(1_300) }));
    }

    #[test]
    fn others_signatures_and_audiences_are_refused() {
        let (key, other) = (PrivateKey::generate(576, &mut random(1)), PrivateKey::generate(576, &mut random(2)));
        let (key, other) = (key.unwrap(), other.unwrap());
        let assertion = sign(&claims(0), Algorithm::Ps256, &key, &mut random(2));
        let zero = Duration::ZERO;
        assert_eq!(check(&assertion, &other.public(), AUDIENCE, at(0), zero), Err(Refused::Signature));
        let refused = check(&assertion, &key.public(), "http://elsewhere/", at(0), zero);
        assert_eq!(refused, Err(Refused::Audience(AUDIENCE.into())));
        let none = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        let unsigned = format!("{none}.{}.", assertion.split('.').nth(1).unwrap());
        assert_eq!(check(&unsigned, &key.public(), AUDIENCE, at(0), zero), Err(Refused::Malformed));
    }

    #[test]
    fn a_signer_s_assertion_begins_now() {
        let signer = Signer::new(PrivateKey::generate(576, &mut random(1)).unwrap(), Algorithm::Ps256);
        let assertion = signer.assertion("me", AUDIENCE, at(7), Duration::from_secs(300), &mut random(2));
        let read = check(&assertion, &signer.key().public(), AUDIENCE, at(7), Duration::ZERO).unwrap();
        assert_eq!((read.sub.as_str(), read.iss.as_str(), read.nbf, read.exp), ("me", "me", 7, 307));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_checker_panic(text in ".{0,60}", dotted in "[a-zA-Z0-9]{0,9}\\.[a-zA-Z0-9]{0,9}\\.[a-zA-Z0-9]{0,9}") {
            let key = PublicKey::new(&[0xff; 72], &[1, 0, 1]).unwrap();
            for text in [text, dotted] {
                prop_assert!(check(&text, &key, AUDIENCE, at(0), Duration::ZERO).is_err());
                prop_assert!(peek(&text).is_err());
            }
        }
    }
}
