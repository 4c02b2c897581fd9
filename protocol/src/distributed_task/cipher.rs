//! Encrypted messages: AES-CBC under a session's key, which itself travels under the agent's public key (RSA-OAEP).

use aes::{Aes128, Aes192, Aes256};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use cbc::{Decryptor, Encryptor};
use rand::RngCore;
use rsa::Oaep;
use rsa::sha2::Sha256;
use rsa::traits::PublicKeyParts;

use super::wire::{EncryptionKey, TaskAgentMessage};
use crate::jwt::{Drawn, PrivateKey, PublicKey};
use crate::random::Random;

/// The digest inside of RSA-OAEP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digest {
    /// What clients expect unless they asked for another one.
    #[default]
    Sha1,
    /// What `useFipsEncryption` asks for.
    Sha256,
}

impl Digest {
    /// As a session's `useFipsEncryption` says.
    pub fn of(use_fips_encryption: bool) -> Self {
        if use_fips_encryption { Self::Sha256 } else { Self::Sha1 }
    }

    const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    fn oaep(self) -> Oaep {
        match self {
            Self::Sha1 => Oaep::new::<sha1::Sha1>(),
            Self::Sha256 => Oaep::new::<Sha256>(),
        }
    }
}

/// Why a key or a message cannot be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// Not base64, or of a wrong length.
    #[error("the encrypted text is malformed")]
    Malformed,
    /// It was encrypted under another key.
    #[error("encrypted under another key")]
    WrongKey,
}

/// The AES key of a session's messages: 128, 192 or 256 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKey(Vec<u8>);

impl SessionKey {
    /// The sizes in bytes, the usual one first.
    const SIZES: [usize; 3] = [32, 24, 16];

    /// Draws a key of the usual size.
    pub fn draw(random: &mut Random) -> Self {
        Self::of_size(Self::SIZES[0], random)
    }

    /// Draws the largest key that can be encrypted under `public`; `None` when not even the smallest fits.
    pub fn draw_for(public: &PublicKey, digest: Digest, random: &mut Random) -> Option<Self> {
        let room = public.rsa().size().checked_sub(2 * digest.size() + 2)?;
        let size = Self::SIZES.into_iter().find(|size| *size <= room)?;
        Some(Self::of_size(size, random))
    }

    fn of_size(size: usize, random: &mut Random) -> Self {
        let mut key = vec![0; size];
        random.fill_bytes(&mut key);
        Self(key)
    }

    /// The key as it is.
    pub fn in_clear(&self) -> EncryptionKey {
        EncryptionKey { encrypted: false, value: BASE64_STANDARD.encode(&self.0) }
    }

    /// The key under the agent's public key.
    ///
    /// # Errors
    /// [`CipherError::WrongKey`] when the public key is too small for it.
    pub fn encrypted(
        &self,
        public: &PublicKey,
        digest: Digest,
        random: &mut Random,
    ) -> Result<EncryptionKey, CipherError> {
        let value = public.rsa().encrypt(&mut Drawn(random), digest.oaep(), &self.0);
        let value = value.map_err(|_| CipherError::WrongKey)?;
        Ok(EncryptionKey { encrypted: true, value: BASE64_STANDARD.encode(value) })
    }

    /// Reads what [`SessionKey::in_clear`] and [`SessionKey::encrypted`] write.
    ///
    /// # Errors
    /// [`CipherError`].
    pub fn read(key: &EncryptionKey, private: &PrivateKey, digest: Digest) -> Result<Self, CipherError> {
        let value = BASE64_STANDARD.decode(&key.value).map_err(|_| CipherError::Malformed)?;
        let value = match key.encrypted {
            true => private.rsa().decrypt(digest.oaep(), &value).map_err(|_| CipherError::WrongKey)?,
            false => value,
        };
        if Self::SIZES.contains(&value.len()) { Ok(Self(value)) } else { Err(CipherError::Malformed) }
    }

    /// A message with its body encrypted under a drawn initialisation vector.
    pub fn encrypt(&self, message: TaskAgentMessage, random: &mut Random) -> TaskAgentMessage {
        let mut iv = [0; 16];
        random.fill_bytes(&mut iv);
        let plain = message.body.as_bytes();
        let key = &self.0;
        let body = match key.len() {
            16 => Encryptor::<Aes128>::new_from_slices(key, &iv).map(|to| to.encrypt_padded_vec_mut::<Pkcs7>(plain)),
            24 => Encryptor::<Aes192>::new_from_slices(key, &iv).map(|to| to.encrypt_padded_vec_mut::<Pkcs7>(plain)),
            _ => Encryptor::<Aes256>::new_from_slices(key, &iv).map(|to| to.encrypt_padded_vec_mut::<Pkcs7>(plain)),
        };
        let body = body.expect("keys have one of the three sizes");
        TaskAgentMessage { iv: Some(BASE64_STANDARD.encode(iv)), body: BASE64_STANDARD.encode(body), ..message }
    }

    /// The body of a message; a plain one as it is.
    ///
    /// # Errors
    /// [`CipherError`].
    pub fn decrypt(&self, message: &TaskAgentMessage) -> Result<String, CipherError> {
        let Some(iv) = message.iv.as_deref().filter(|iv| !iv.is_empty()) else {
            return Ok(message.body.clone());
        };
        let decode = |text| BASE64_STANDARD.decode(text).map_err(|_| CipherError::Malformed);
        let (iv, body) = (decode(iv)?, decode(message.body.as_str())?);
        if body.is_empty() || body.len() % 16 != 0 {
            return Err(CipherError::Malformed);
        }
        let key = &self.0;
        let plain = match key.len() {
            16 => {
                Decryptor::<Aes128>::new_from_slices(key, &iv).map(|from| from.decrypt_padded_vec_mut::<Pkcs7>(&body))
            }
            24 => {
                Decryptor::<Aes192>::new_from_slices(key, &iv).map(|from| from.decrypt_padded_vec_mut::<Pkcs7>(&body))
            }
            _ => Decryptor::<Aes256>::new_from_slices(key, &iv).map(|from| from.decrypt_padded_vec_mut::<Pkcs7>(&body)),
        };
        let plain = plain.map_err(|_| CipherError::Malformed)?.map_err(|_| CipherError::WrongKey)?;
        let plain = plain.strip_prefix(b"\xef\xbb\xbf").map(<[u8]>::to_vec).unwrap_or(plain);
        String::from_utf8(plain).map_err(|_| CipherError::WrongKey)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn random(seed: u64) -> Random {
        Box::new(ChaCha8Rng::seed_from_u64(seed))
    }

    fn message(body: &str) -> TaskAgentMessage {
        TaskAgentMessage { message_id: 3, message_type: "x".into(), iv: None, body: body.into() }
    }

    #[test]
    fn a_session_key_crosses_under_keys_of_several_sizes() {
        for (bits, digest, size) in
            [(576, Digest::Sha1, 24), (704, Digest::Sha256, 16), (1024, Digest::Sha256, 32), (1024, Digest::Sha1, 32)]
        {
            let private = PrivateKey::generate(bits, &mut random(1)).unwrap();
            let key = SessionKey::draw_for(&private.public(), digest, &mut random(2)).unwrap();
            assert_eq!(key.0.len(), size, "{bits} bits, {digest:?}");
            let sent = key.encrypted(&private.public(), digest, &mut random(3)).unwrap();
            assert_eq!(SessionKey::read(&sent, &private, digest), Ok(key.clone()));
            assert_eq!(SessionKey::read(&key.in_clear(), &private, digest), Ok(key));
            let other = PrivateKey::generate(bits, &mut random(9)).unwrap();
            assert!(SessionKey::read(&sent, &other, digest).is_err());
        }
        let small = PrivateKey::generate(576, &mut random(1)).unwrap();
        assert_eq!(SessionKey::draw_for(&small.public(), Digest::Sha256, &mut random(2)), None);
        assert!(SessionKey::draw(&mut random(1)).encrypted(&small.public(), Digest::Sha1, &mut random(2)).is_err());
    }

    #[test]
    fn plain_messages_and_byte_order_marks_are_tolerated() {
        let key = SessionKey::draw(&mut random(1));
        assert_eq!(key.decrypt(&message("plain")), Ok("plain".into()));
        let marked = key.encrypt(message("\u{feff}{}"), &mut random(2));
        assert_eq!(key.decrypt(&marked), Ok("{}".into()));
    }

    proptest! {
        #[test]
        fn messages_come_back(body in ".{0,200}", seed in 0u64..100) {
            prop_assume!(!body.starts_with('\u{feff}'));
            let key = SessionKey::draw(&mut random(seed));
            let sent = key.encrypt(message(&body), &mut random(seed + 1));
            prop_assert_ne!(&sent.body, &body);
            prop_assert_eq!(key.decrypt(&sent), Ok(body));
        }

        #[test]
        fn garbage_is_an_error(body in proptest::collection::vec(any::<u8>(), 1..80), iv in "[A-Za-z0-9+/]{0,30}") {
            let key = SessionKey::draw(&mut random(1));
            let sent = TaskAgentMessage { iv: Some(iv + "!"), body: BASE64_STANDARD.encode(&body), ..message("") };
            prop_assert!(key.decrypt(&sent).is_err());
            let short = TaskAgentMessage { iv: Some(BASE64_STANDARD.encode([0; 16])), ..sent };
            prop_assert!(body.len() % 16 == 0 || key.decrypt(&short).is_err());
        }
    }
}
