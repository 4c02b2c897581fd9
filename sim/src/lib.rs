//! One seed, one world.
#[cfg(not(madsim))]
compile_error!(
    "squall needs `--cfg madsim`: put `[build] rustflags = [\"--cfg\", \"madsim\"]` into .cargo/config.toml"
);
