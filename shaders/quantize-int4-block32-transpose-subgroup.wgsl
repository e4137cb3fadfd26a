// quantize-int4-block32-transpose.wgsl with the same contract and the same bytes, for adapters with subgroups of 8 to 64 lanes.
// Symmetric int4 in blocks of 32 down the columns of a row-major [rows, n] piece of a [K,N] weight, in [N,K] block order.
// values: f32 as bits; packed; scales (f32); zero_points (u32); flags: [non-finite, 0] at `slot`, atomics; params last
// (bits, block_size, asymmetric and shrink_count are fixed).
// Eight neighbouring lanes of a subgroup are a team that takes 4 neighbouring columns of one block: lane r reads rows r, r + 8,
// r + 16 and r + 24, so that every value is loaded once; extremes and codes are exchanged by shuffles inside the team.
// Lane c of the team (and c + 4) computes the scale of column c; lane l writes words 2 (l % 2) and the next of column l / 2.
// Subgroup operations stand in branches that a whole team takes or leaves, which the uniformity analysis cannot see.

enable subgroups;
diagnostic(off, subgroup_uniformity);

struct Params {
  rows: u32, n: u32, first_block: u32, blocks_per_column: u32,
  bits: u32, block_size: u32, asymmetric: u32, shrink_count: u32,
  values_start: u32, packed_word_base: u32, block_base: u32, slot: u32,
}

@group(0) @binding(1) var<storage, read_write> packed: array<vec2u>;
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;
@group(0) @binding(3) var<storage, read_write> zero_points: array<u32>;
@group(0) @binding(4) var<storage, read_write> flags: array<atomic<u32>>;
@group(0) @binding(5) var<uniform> params: Params;

const ABS_MASK = 0x7fffffffu;
const INFINITY_BITS = 0x7f800000u;
const TINY_BITS = 0x0da24260u;
// 1.5 * 2^23 + 8: the sum's low bits are the rounded value + 8
const MAGIC = vec4f(12582920.0);

fn nibbles(bits: vec4u, inverse: vec4f, shift: vec4u) -> vec4u {
  return (bitcast<vec4u>(min(bitcast<vec4f>(bits) * inverse, vec4f(7.0)) + MAGIC) & vec4u(15u)) << shift;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_size) subgroup_size: u32,
  @builtin(subgroup_invocation_id) in_subgroup: u32,
) {
  let lane = in_subgroup & 7u;
  let item = (group.y * groups.x + group.x) * 8u + (subgroup * subgroup_size + in_subgroup) / 8u;
  let quads = params.n / 4u;
  if (quads == 0u) {
    return;
  }
  let block = item / quads;
  if (block * 32u >= params.rows) {
    return;
  }
  let quad = item % quads;
  let height = min(32u, params.rows - block * 32u);
  let first = params.values_start / 4u + block * 32u * quads + quad;
  let last = height - 1u;
  var v0 = values_at(first + min(lane, last) * quads);
  var v1 = values_at(first + min(lane + 8u, last) * quads);
  var v2 = values_at(first + min(lane + 16u, last) * quads);
  var v3 = values_at(first + min(lane + 24u, last) * quads);
  if (height < 32u) {
    v0 = select(v0, vec4u(0u), lane > last);
    v1 = select(v1, vec4u(0u), lane + 8u > last);
    v2 = select(v2, vec4u(0u), lane + 16u > last);
    v3 = select(v3, vec4u(0u), lane + 24u > last);
  }

  var positive = bitcast<vec4u>(max_of_team_i(max(max(max(bitcast<vec4i>(v0), bitcast<vec4i>(v1)),
    max(bitcast<vec4i>(v2), bitcast<vec4i>(v3))), vec4i(0))));
  var negative = max_of_team_u(max(max(v0, v1), max(v2, v3)));
  if (any(max(positive, negative & vec4u(ABS_MASK)) >= vec4u(INFINITY_BITS))) {
    let count = non_finite(v0) + non_finite(v1) + non_finite(v2) + non_finite(v3);
    if (count != 0u) {
      atomicAdd(&flags[params.slot * 2u], count);
    }
    v0 = finite(v0);
    v1 = finite(v1);
    v2 = finite(v2);
    v3 = finite(v3);
    positive = bitcast<vec4u>(max_of_team_i(max(max(max(bitcast<vec4i>(v0), bitcast<vec4i>(v1)),
      max(bitcast<vec4i>(v2), bitcast<vec4i>(v3))), vec4i(0))));
    negative = max_of_team_u(max(max(v0, v1), max(v2, v3)));
  }
  let magnitude = negative & vec4u(ABS_MASK);
  var extremes = select(negative, positive, positive > magnitude);
  let tie = (positive == magnitude) & (negative != positive);
  if (any(tie)) {
    let none = vec4u(32u);
    let row = vec4u(lane);
    let p = min(min(select(none, row, v0 == positive), select(none, row + 8u, v1 == positive)),
      min(select(none, row + 16u, v2 == positive), select(none, row + 24u, v3 == positive)));
    let n = min(min(select(none, row, v0 == negative), select(none, row + 8u, v1 == negative)),
      min(select(none, row + 16u, v2 == negative), select(none, row + 24u, v3 == negative)));
    extremes = select(extremes, select(negative, positive, min_of_team(p) < min_of_team(n)), tie);
  }

  let pair = select(extremes.xy, extremes.zw, (lane & 2u) != 0u);
  let extreme = select(pair.x, pair.y, (lane & 1u) != 0u);
  let tiny = (extreme & ABS_MASK) < TINY_BITS;
  let scale = select(bitcast<f32>(extreme) * -0.125, 0.0, tiny);
  let own_inverse = select(reciprocal(scale), 0.0, tiny);
  let base = in_subgroup - lane;
  let inverse = vec4f(subgroupShuffle(own_inverse, base), subgroupShuffle(own_inverse, base + 1u),
    subgroupShuffle(own_inverse, base + 2u), subgroupShuffle(own_inverse, base + 3u));

  let shift = vec4u(lane * 4u);
  let w0 = nibbles(v0, inverse, shift);
  let w1 = nibbles(v1, inverse, shift);
  let w2 = nibbles(v2, inverse, shift);
  let w3 = nibbles(v3, inverse, shift);
  // each step halves what a lane holds and adds what its partner held of it
  let high = (lane & 4u) != 0u;
  let a0 = select(w0.xy, w0.zw, high) + subgroupShuffleXor(select(w0.zw, w0.xy, high), 4u);
  let a1 = select(w1.xy, w1.zw, high) + subgroupShuffleXor(select(w1.zw, w1.xy, high), 4u);
  let a2 = select(w2.xy, w2.zw, high) + subgroupShuffleXor(select(w2.zw, w2.xy, high), 4u);
  let a3 = select(w3.xy, w3.zw, high) + subgroupShuffleXor(select(w3.zw, w3.xy, high), 4u);
  let odd = (lane & 2u) != 0u;
  let x = vec4u(a0.x, a1.x, a2.x, a3.x);
  let y = vec4u(a0.y, a1.y, a2.y, a3.y);
  let b = select(x, y, odd) + subgroupShuffleXor(select(y, x, odd), 2u);
  let upper = (lane & 1u) != 0u;
  let words = select(b.xy, b.zw, upper) + subgroupShuffleXor(select(b.zw, b.xy, upper), 1u);

  let local_block = quad * 4u * params.blocks_per_column + params.first_block + block;
  packed[(params.packed_word_base / 4u + local_block + (lane >> 1u) * params.blocks_per_column) * 2u + (lane & 1u)] = words;
  if (lane < 4u) {
    let at = params.block_base + local_block + lane * params.blocks_per_column;
    scales[at] = scale;
    zero_points[at] = 8u;
  }
}
