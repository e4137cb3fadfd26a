// Symmetric int4 in blocks of 32 down the columns of a row-major [rows, n] piece of a [K,N] weight, written in [N,K] block order:
// the common case of quantize-block-transpose.wgsl with the same contract (formulas as in quantize-int4-block32.wgsl).
// Column c, block b of the piece: local = c * blocks_per_column + first_block + b; packed: one vec4 at packed_word_base / 4 + local,
// scales and zero_points at block_base + local. n, values_start and packed_word_base are multiples of 4.
// values: f32 as bits; packed; scales (f32); zero_points (u32); flags: [non-finite, 0] at `slot`, atomics; params last
// (bits, block_size, asymmetric and shrink_count are fixed).
// An invocation takes 4 neighbouring columns of one block, one in each vector component, and keeps its rows in registers. Rows beyond
// the piece count as 0. What is rare reads them again, in loops: software adapters run through both sides of a branch.

struct Params {
  rows: u32, n: u32, first_block: u32, blocks_per_column: u32,
  bits: u32, block_size: u32, asymmetric: u32, shrink_count: u32,
  values_start: u32, packed_word_base: u32, block_base: u32, slot: u32,
}

@group(0) @binding(1) var<storage, read_write> packed: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;
@group(0) @binding(3) var<storage, read_write> zero_points: array<u32>;
@group(0) @binding(4) var<storage, read_write> flags: array<atomic<u32>>;
@group(0) @binding(5) var<uniform> params: Params;

const ABS_MASK = vec4u(0x7fffffffu);
const INFINITY_BITS = vec4u(0x7f800000u);
const TINY_BITS = vec4u(0x0da24260u);
// 1.5 * 2^23 + 8: the sum's low bits are the rounded value + 8
const MAGIC = vec4f(12582920.0);
// what the upper bits of eight such sums add up to when each is shifted to its nibble
const MAGIC_EXCESS = vec4u(0x3f400000u);

// eight rows of four columns
struct Rows {
  r0: vec4u, r1: vec4u, r2: vec4u, r3: vec4u, r4: vec4u, r5: vec4u, r6: vec4u, r7: vec4u,
}

fn rows_at(first: u32) -> Rows {
  let quads = params.n / 4u;
  return Rows(
    values_at(first + 0u * quads),
    values_at(first + 1u * quads),
    values_at(first + 2u * quads),
    values_at(first + 3u * quads),
    values_at(first + 4u * quads),
    values_at(first + 5u * quads),
    values_at(first + 6u * quads),
    values_at(first + 7u * quads),
  );
}

// rows from `height` on as 0
fn only_first(rows: Rows, height: u32) -> Rows {
  let none = vec4u(0u);
  return Rows(
    select(none, rows.r0, 0u < height),
    select(none, rows.r1, 1u < height),
    select(none, rows.r2, 2u < height),
    select(none, rows.r3, 3u < height),
    select(none, rows.r4, 4u < height),
    select(none, rows.r5, 5u < height),
    select(none, rows.r6, 6u < height),
    select(none, rows.r7, 7u < height),
  );
}

// infinities and NaN as 0
fn finite(bits: vec4u) -> vec4u {
  return select(vec4u(0u), bits, (bits & ABS_MASK) < INFINITY_BITS);
}

// the value of the largest magnitude, of equal ones the first, and its magnitude; both as bits
struct Extreme {
  bits: vec4u,
  magnitude: vec4i,
}

fn with_row(before: Extreme, bits: vec4u) -> Extreme {
  let magnitude = bitcast<vec4i>(bits & ABS_MASK);
  return Extreme(select(before.bits, bits, magnitude > before.magnitude), max(before.magnitude, magnitude));
}

fn with_rows(before: Extreme, rows: Rows) -> Extreme {
  let a = with_row(with_row(with_row(with_row(before, rows.r0), rows.r1), rows.r2), rows.r3);
  return with_row(with_row(with_row(with_row(a, rows.r4), rows.r5), rows.r6), rows.r7);
}

// w / scale is at least -8 by the choice of scale
fn code(bits: vec4u, inverse: vec4f) -> vec4u {
  return bitcast<vec4u>(min(bitcast<vec4f>(bits) * inverse, vec4f(7.0)) + MAGIC);
}

// the codes of eight rows, a word for each column
fn code_word(rows: Rows, inverse: vec4f) -> vec4u {
  return code(rows.r0, inverse) + (code(rows.r1, inverse) << vec4u(4u)) +
    (code(rows.r2, inverse) << vec4u(8u)) + (code(rows.r3, inverse) << vec4u(12u)) +
    (code(rows.r4, inverse) << vec4u(16u)) + (code(rows.r5, inverse) << vec4u(20u)) +
    (code(rows.r6, inverse) << vec4u(24u)) + (code(rows.r7, inverse) << vec4u(28u)) - MAGIC_EXCESS;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let invocation = (group.y * groups.x + group.x) * 64u + local;
  let quads = params.n / 4u;
  if (quads == 0u) {
    return;
  }
  let block = invocation / quads;
  if (block * 32u >= params.rows) {
    return;
  }
  let quad = invocation % quads;
  let first = params.values_start / 4u + block * 32u * quads + quad;
  let height = min(32u, params.rows - block * 32u);
  var rows0 = rows_at(first);
  var rows1 = rows_at(first + 8u * quads);
  var rows2 = rows_at(first + 16u * quads);
  var rows3 = rows_at(first + 24u * quads);
  if (params.rows % 32u != 0u) {
    rows0 = only_first(rows0, height);
    rows1 = only_first(rows1, max(height, 8u) - 8u);
    rows2 = only_first(rows2, max(height, 16u) - 16u);
    rows3 = only_first(rows3, max(height, 24u) - 24u);
  }

  var extreme = with_rows(with_rows(with_rows(with_rows(Extreme(), rows0), rows1), rows2), rows3);
  let has_non_finite = any(bitcast<vec4u>(extreme.magnitude) >= INFINITY_BITS);
  if (has_non_finite) {
    extreme = Extreme();
    var count = vec4u(0u);
    for (var row = 0u; row < height; row++) {
      let bits = values_at(first + row * quads);
      count += vec4u((bits & ABS_MASK) >= INFINITY_BITS);
      extreme = with_row(extreme, finite(bits));
    }
    atomicAdd(&flags[params.slot * 2u], count.x + count.y + count.z + count.w);
  }

  let tiny = bitcast<vec4u>(extreme.magnitude) < TINY_BITS;
  let scale = select(bitcast<vec4f>(extreme.bits) * -0.125, vec4f(0.0), tiny);
  // with reciprocal 0 every code is 8
  let inverse = select(reciprocal(scale), vec4f(0.0), tiny);
  var word0 = code_word(rows0, inverse);
  var word1 = code_word(rows1, inverse);
  var word2 = code_word(rows2, inverse);
  var word3 = code_word(rows3, inverse);
  if (has_non_finite) {
    word0 = vec4u(0u) - MAGIC_EXCESS;
    word1 = word0;
    word2 = word0;
    word3 = word0;
    for (var row = 0u; row < 32u; row++) {
      let bits = select(vec4u(0u), finite(values_at(first + row * quads)), row < height);
      let shifted = code(bits, inverse) << vec4u((row % 8u) * 4u);
      word0 += select(vec4u(0u), shifted, row < 8u);
      word1 += select(vec4u(0u), shifted, row >= 8u && row < 16u);
      word2 += select(vec4u(0u), shifted, row >= 16u && row < 24u);
      word3 += select(vec4u(0u), shifted, row >= 24u);
    }
  }
  var local_block = quad * 4u * params.blocks_per_column + params.first_block + block;
  for (var c = 0u; c < 4u; c++) {
    packed[params.packed_word_base / 4u + local_block] = vec4u(word0[c], word1[c], word2[c], word3[c]);
    scales[params.block_base + local_block] = scale[c];
    zero_points[params.block_base + local_block] = 8u;
    local_block += params.blocks_per_column;
  }
}
