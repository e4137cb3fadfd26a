// quantize-int4-block32.wgsl with the same contract and the same bytes, for adapters with subgroups of 8 to 64 lanes.
// Symmetric int4 in blocks of 32 consecutive elements; segments: [start, length, slot, first block]; packed: 4 words a block, low
// nibble first; scales: f32 a block; zero_points: u32 a block; flags: [non-finite, 0] a slot, atomics; params last
// (bits, block_size, asymmetric, shrink_count fixed). Starts are multiples of 4; `lanes` is a multiple of 8.
// Eight neighbouring lanes of a subgroup are a team; a segment has lanes / 8 teams, which take 4 blocks at a time in turn. Lane l
// reads the l-th vec4 of each; extremes and codes are exchanged by shuffles inside the team. Lane b of the team (and b + 4)
// computes the scale of block b; lane l writes word l / 2 of blocks 2 (l % 2) and the next.
// Subgroup operations stand in branches that a whole team takes or leaves, which the uniformity analysis cannot see.

enable subgroups;
diagnostic(off, subgroup_uniformity);

struct Params {
  segment_count: u32, lanes: u32, bits: u32, block_size: u32,
  asymmetric: u32, shrink_count: u32, reserved0: u32, reserved1: u32,
}

@group(0) @binding(1) var<storage, read> segments: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> packed: array<u32>;
@group(0) @binding(3) var<storage, read_write> scales: array<f32>;
@group(0) @binding(4) var<storage, read_write> zero_points: array<u32>;
@group(0) @binding(5) var<storage, read_write> flags: array<atomic<u32>>;
@group(0) @binding(6) var<uniform> params: Params;

const ABS_MASK = 0x7fffffffu;
const INFINITY_BITS = 0x7f800000u;
const TINY_BITS = 0x0da24260u;
const COMPONENT = vec4u(0u, 1u, 2u, 3u);
// 1.5 * 2^23 + 8: the sum's low bits are the rounded value + 8
const MAGIC = vec4f(12582920.0);

fn tail(bits: vec4u, first: u32, length: u32) -> vec4u {
  return select(vec4u(0u), bits, vec4u(first) + COMPONENT < vec4u(length));
}

// index of the first of the block's elements that has these bits, from `first` on; 32 when there is none
fn first_index(bits: vec4u, wanted: u32, first: u32) -> u32 {
  let at = select(vec4u(32u), vec4u(first) + COMPONENT, bits == vec4u(wanted));
  return min(min(at.x, at.y), min(at.z, at.w));
}

fn largest_i(bits: vec4u) -> i32 {
  let v = bitcast<vec4i>(bits);
  return max(max(v.x, v.y), max(v.z, v.w));
}

fn largest_u(v: vec4u) -> u32 {
  return max(max(v.x, v.y), max(v.z, v.w));
}

// of each of the team's four blocks
fn largest_positives(v0: vec4u, v1: vec4u, v2: vec4u, v3: vec4u) -> vec4u {
  return bitcast<vec4u>(max_of_team_i(max(vec4i(largest_i(v0), largest_i(v1), largest_i(v2), largest_i(v3)), vec4i(0))));
}

fn largest_negatives(v0: vec4u, v1: vec4u, v2: vec4u, v3: vec4u) -> vec4u {
  return max_of_team_u(vec4u(largest_u(v0), largest_u(v1), largest_u(v2), largest_u(v3)));
}

// four codes in 16 bits; w / scale is at least -8 by the choice of scale
fn nibbles(bits: vec4u, inverse: f32) -> u32 {
  let n = bitcast<vec4u>(min(bitcast<vec4f>(bits) * inverse, vec4f(7.0)) + MAGIC) & vec4u(15u);
  return n.x | (n.y << 4u) | (n.z << 8u) | (n.w << 12u);
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_size) subgroup_size: u32,
  @builtin(subgroup_invocation_id) in_subgroup: u32,
) {
  let invocation = (group.y * groups.x + group.x) * 64u + subgroup * subgroup_size + in_subgroup;
  let row = invocation / params.lanes;
  if (row >= params.segment_count) {
    return;
  }
  let lane = in_subgroup & 7u;
  let segment = segments[row];
  let first = segment.x >> 2u;
  let last = first + ((segment.y - 1u) >> 2u);
  let blocks = (segment.y + 31u) / 32u;
  for (var block = (invocation % params.lanes / 8u) * 4u; block < blocks; block += params.lanes / 2u) {
    let v = first + block * 8u + lane;
    var v0 = values_at(min(v, last));
    var v1 = values_at(min(v + 8u, last));
    var v2 = values_at(min(v + 16u, last));
    var v3 = values_at(min(v + 24u, last));
    if (block * 32u + 128u > segment.y) {
      let element = (block * 8u + lane) * 4u;
      v0 = tail(v0, element, segment.y);
      v1 = tail(v1, element + 32u, segment.y);
      v2 = tail(v2, element + 64u, segment.y);
      v3 = tail(v3, element + 96u, segment.y);
    }

    // as i32 the largest bits are the largest positive value, as u32 the negative value of largest magnitude
    var positive = largest_positives(v0, v1, v2, v3);
    var negative = largest_negatives(v0, v1, v2, v3);
    if (any(max(positive, negative & vec4u(ABS_MASK)) >= vec4u(INFINITY_BITS))) {
      let count = non_finite(v0) + non_finite(v1) + non_finite(v2) + non_finite(v3);
      if (count != 0u) {
        atomicAdd(&flags[segment.z * 2u], count);
      }
      v0 = finite(v0);
      v1 = finite(v1);
      v2 = finite(v2);
      v3 = finite(v3);
      positive = largest_positives(v0, v1, v2, v3);
      negative = largest_negatives(v0, v1, v2, v3);
    }
    // without a negative value `negative` is the largest positive one again, which is then w* either way
    let magnitude = negative & vec4u(ABS_MASK);
    var extremes = select(negative, positive, positive > magnitude);
    let tie = (positive == magnitude) & (negative != positive);
    if (any(tie)) {
      let at = lane * 4u;
      let of_positive = vec4u(first_index(v0, positive.x, at), first_index(v1, positive.y, at),
        first_index(v2, positive.z, at), first_index(v3, positive.w, at));
      let of_negative = vec4u(first_index(v0, negative.x, at), first_index(v1, negative.y, at),
        first_index(v2, negative.z, at), first_index(v3, negative.w, at));
      let positive_first = min_of_team(of_positive) < min_of_team(of_negative);
      extremes = select(extremes, select(negative, positive, positive_first), tie);
    }

    let pair = select(extremes.xy, extremes.zw, (lane & 2u) != 0u);
    let extreme = select(pair.x, pair.y, (lane & 1u) != 0u);
    let tiny = (extreme & ABS_MASK) < TINY_BITS;
    let scale = select(bitcast<f32>(extreme) * -0.125, 0.0, tiny);
    // with reciprocal 0 every code is 8
    let inverse = select(reciprocal(scale), 0.0, tiny);
    let team = in_subgroup - lane;
    // the 16 bits of this lane's vec4 in each block, where they stand in their word
    let halves = vec4u(
      nibbles(v0, subgroupShuffle(inverse, team)),
      nibbles(v1, subgroupShuffle(inverse, team + 1u)),
      nibbles(v2, subgroupShuffle(inverse, team + 2u)),
      nibbles(v3, subgroupShuffle(inverse, team + 3u)),
    ) << vec4u((lane & 1u) * 16u);
    let odd = (lane & 1u) != 0u;
    let words = select(halves.xy, halves.zw, odd) + subgroupShuffleXor(select(halves.zw, halves.xy, odd), 1u);
    let own = block + (lane & 1u) * 2u;
    let at = (segment.w + own) * 4u + (lane >> 1u);
    if (own < blocks) {
      packed[at] = words.x;
    }
    if (own + 1u < blocks) {
      packed[at + 4u] = words.y;
    }
    if (lane < 4u && block + lane < blocks) {
      scales[segment.w + block + lane] = scale;
      zero_points[segment.w + block + lane] = 8u;
    }
  }
}
