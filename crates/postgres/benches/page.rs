//! How fast pages are judged on one core: `cargo bench -p strongroom-postgres`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a benchmark reads the clock and prints"
)]

use std::hint::black_box;
use std::time::Instant;

use strongroom_model::page::PAGE_SIZE;
use strongroom_postgres::page::checksum;

fn main() {
    let mut page = Box::new([0u8; PAGE_SIZE]);
    page.iter_mut().enumerate().for_each(|(at, byte)| *byte = at as u8);
    let rounds = 400_000u32;
    let began = Instant::now();
    let sum = (0..rounds).fold(0u32, |sum, block| sum.wrapping_add(checksum(black_box(&page), block).into()));
    let seconds = began.elapsed().as_secs_f64();
    let bytes = f64::from(rounds) * PAGE_SIZE as f64;
    println!("page checksum: {:.2} GB/s (sum {sum})", bytes / seconds / 1e9);
}
