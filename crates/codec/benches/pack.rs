//! How fast pages become a pack: fingerprint, compress, seal. One thread; `cargo bench -p strongroom-codec`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use strongroom_codec::compress::Compression;
use strongroom_codec::header::Suite;
use strongroom_codec::keys::{PointKey, VaultKey};
use strongroom_codec::pack::{PackScope, PackWriter, pack_header};
use strongroom_model::VaultId;
use strongroom_model::page::PAGE_SIZE;

/// Pages that compress about as rows do: words from a small dictionary between counting numbers.
fn pages(count: usize) -> Vec<u8> {
    let words = ["login", "transfer", "withdraw", "deposit", "audit"];
    let mut text = String::new();
    for row in 0.. {
        text.push_str(&format!("{row:08x}|{}|{}|", words[row * 7 % 5], row * 2_654_435_761 % 99_991));
        if text.len() >= count * PAGE_SIZE {
            break;
        }
    }
    text.into_bytes()[..count * PAGE_SIZE].to_vec()
}

fn pack(criterion: &mut Criterion) {
    let (key, vault) = (PointKey::new([1; 32], None), VaultId::new([2; 16]));
    let prints = VaultKey::new([3; 32]).fingerprint_key(Suite::Aes256Gcm);
    let content = pages(2048);
    let mut group = criterion.benchmark_group("pack");
    group.throughput(Throughput::Bytes(content.len() as u64));
    for (suite, compression) in [
        (Suite::Aes256Gcm, Compression::Zstd(1)),
        (Suite::Aes256Gcm, Compression::Lz4),
        (Suite::Aes256Gcm, Compression::None),
        (Suite::Plain, Compression::Zstd(1)),
    ] {
        group.bench_function(format!("{suite:?}, {compression}"), |bench| {
            bench.iter(|| {
                let scope = PackScope { key: &key, fingerprints: &prints, vault: &vault, path: "packs/0" };
                let header = pack_header(suite, [4; 16]);
                let mut writer =
                    PackWriter::new(scope, header, compression, 0, Vec::with_capacity(content.len()));
                writer.add(0, 0, &content, &mut Vec::new());
                writer.finish().1.size
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pack);
criterion_main!(benches);
