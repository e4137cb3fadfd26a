// Symmetric int4 in blocks of 32 down the columns of a row-major [rows, n] piece of a [K,N] weight, written in [N,K] block order:
// the common case of quantize-block-transpose.wgsl with the same contract (formulas as in quantize-int4-block32.wgsl).
// Column c, block b of the piece: local = c * blocks_per_column + first_block + b; packed: one vec4 at packed_word_base / 4 + local,
// scales and zero_points at block_base + local. n, values_start and packed_word_base are multiples of 4.
// values: f32 as bits; packed; scales (f32); zero_points (u32); flags: [non-finite, 0] at `slot`, atomics; params last
// (bits, block_size, asymmetric and shrink_count are fixed).
// An invocation takes 4 neighbouring columns of one block, one in each vector component; rows beyond the piece are read as 0.

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

// the codes of rows [row, row + 8) of the block, a word for each column; w / scale is at least -8 by the choice of scale
fn code_word(first: u32, row: u32, height: u32, inverse: vec4f) -> vec4u {
  let quads = params.n / 4u;
  var sum = vec4u(0u);
  for (var i = 0u; i < 8u; i++) {
    var bits = vec4u(0u);
    if (row + i < height) {
      bits = values_at(first + (row + i) * quads);
    }
    bits = select(bits, vec4u(0u), (bits & ABS_MASK) >= INFINITY_BITS);
    sum += bitcast<vec4u>(min(bitcast<vec4f>(bits) * inverse, vec4f(7.0)) + MAGIC) << vec4u(i * 4u);
  }
  return sum - MAGIC_EXCESS;
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
  let height = min(32u, params.rows - block * 32u);
  let first = params.values_start / 4u + block * 32u * quads + quad;

  var extreme = vec4u(0u);
  var magnitude = vec4u(0u);
  for (var i = 0u; i < height; i++) {
    let bits = values_at(first + i * quads);
    let size = bits & ABS_MASK;
    extreme = select(extreme, bits, size > magnitude);
    magnitude = max(magnitude, size);
  }
  let has_non_finite = any(magnitude >= INFINITY_BITS);
  if (has_non_finite) {
    var non_finite = vec4u(0u);
    extreme = vec4u(0u);
    for (var i = 0u; i < height; i++) {
      let bits = values_at(first + i * quads);
      let is_finite = (bits & ABS_MASK) < INFINITY_BITS;
      non_finite += select(vec4u(1u), vec4u(0u), is_finite);
      extreme = select(extreme, bits, is_finite & ((bits & ABS_MASK) > (extreme & ABS_MASK)));
    }
    atomicAdd(&flags[params.slot * 2u], non_finite.x + non_finite.y + non_finite.z + non_finite.w);
  }

  let tiny = (extreme & ABS_MASK) < TINY_BITS;
  let scale = select(bitcast<vec4f>(extreme) * -0.125, vec4f(0.0), tiny);
  // with reciprocal 0 every code is 8
  let inverse = select(reciprocal(scale), vec4f(0.0), tiny);

  let word0 = code_word(first, 0u, height, inverse);
  let word1 = code_word(first, 8u, height, inverse);
  let word2 = code_word(first, 16u, height, inverse);
  let word3 = code_word(first, 24u, height, inverse);
  var local_block = quad * 4u * params.blocks_per_column + params.first_block + block;
  for (var c = 0u; c < 4u; c++) {
    packed[params.packed_word_base / 4u + local_block] = vec4u(word0[c], word1[c], word2[c], word3[c]);
    scales[params.block_base + local_block] = scale[c];
    zero_points[params.block_base + local_block] = 8u;
    local_block += params.blocks_per_column;
  }
}
