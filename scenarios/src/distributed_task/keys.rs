//! Keys of simulated agents, as small as they may be: a real agent's has 2,048 bits.

use std::sync::LazyLock;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use squall_protocol::distributed_task::server::Encryption;
use squall_protocol::jwt::PrivateKey;

/// As small as PS256 allows.
const SIGNING_KEY_BITS: usize = 576;
/// As small as an AES key of 256 bits under RSA-OAEP with SHA-256 allows.
const DECRYPTING_KEY_BITS: usize = 832;

/// Simulated agents share a key; the service tells them apart by their client's id.
static SIGNING_KEY: LazyLock<PrivateKey> = LazyLock::new(|| key(SIGNING_KEY_BITS));
/// The same for agents whose session keys travel under RSA.
static DECRYPTING_KEY: LazyLock<PrivateKey> = LazyLock::new(|| key(DECRYPTING_KEY_BITS));

/// The key of an agent whose messages travel like this.
pub fn fitting(encryption: Encryption) -> PrivateKey {
    match encryption {
        Encryption::KeyUnderRsa => DECRYPTING_KEY.clone(),
        Encryption::Plain | Encryption::KeyInClear => SIGNING_KEY.clone(),
    }
}

fn key(bits: usize) -> PrivateKey {
    let mut random: squall_protocol::Random = Box::new(ChaCha8Rng::seed_from_u64(bits as u64));
    PrivateKey::generate(bits, &mut random).expect("a size that RSA allows")
}
