// Symmetric int4 in blocks of 32 consecutive elements, the common case of quantize-block.wgsl with the same contract:
//   w* = element of largest magnitude (the first of equals), scale = w* / -8, q = clamp(roundHalfEven(w / scale) + 8, 0, 15).
// |w*| < 1e-30: scale 0 and all codes 8. NaN and infinities count as 0 and are counted.
// values: f32 as bits; segments: [start, length, slot, first block]; packed: a vec4 a block, low nibble first; scales: f32 a block;
// zero_points: u32 a block; flags: [non-finite, 0] a slot, atomics; params last (bits, block_size, asymmetric, shrink_count fixed).
// An invocation takes blocks lane, lane + lanes, ... of its segment, each in 8 vec4 registers. Starts are multiples of 4.

struct Params {
  segment_count: u32, lanes: u32, bits: u32, block_size: u32,
  asymmetric: u32, shrink_count: u32, reserved0: u32, reserved1: u32,
}

@group(0) @binding(1) var<storage, read> segments: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> packed: array<vec4u>;
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
// what the upper bits of eight such sums add up to when each is shifted to its nibble
const MAGIC_EXCESS = 0x3f400000u;

fn tail(bits: vec4u, first: u32, length: u32) -> vec4u {
  return select(vec4u(0u), bits, vec4u(first) + COMPONENT < vec4u(length));
}

fn finite(bits: vec4u) -> vec4u {
  return select(bits, vec4u(0u), (bits & vec4u(ABS_MASK)) >= vec4u(INFINITY_BITS));
}

fn non_finite(bits: vec4u) -> u32 {
  let is = vec4u((bits & vec4u(ABS_MASK)) >= vec4u(INFINITY_BITS));
  return is.x + is.y + is.z + is.w;
}

// index of the first of the block's elements that has these bits, from `first` on; 32 when there is none
fn first_index(bits: vec4u, wanted: u32, first: u32) -> u32 {
  let at = select(vec4u(32u), vec4u(first) + COMPONENT, bits == vec4u(wanted));
  return min(min(at.x, at.y), min(at.z, at.w));
}

// eight codes as one word; w / scale is at least -8 by the choice of scale
fn codes(low: vec4u, high: vec4u, inverse: vec4f) -> u32 {
  let a = bitcast<vec4u>(min(bitcast<vec4f>(low) * inverse, vec4f(7.0)) + MAGIC);
  let b = bitcast<vec4u>(min(bitcast<vec4f>(high) * inverse, vec4f(7.0)) + MAGIC);
  let sum = a + (b << vec4u(16u));
  return sum.x + (sum.y << 4u) + (sum.z << 8u) + (sum.w << 12u) - MAGIC_EXCESS;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let invocation = (group.y * groups.x + group.x) * 64u + local;
  let row = invocation / params.lanes;
  if (row >= params.segment_count) {
    return;
  }
  let segment = segments[row];
  let blocks = (segment.y + 31u) / 32u;
  for (var block = invocation % params.lanes; block < blocks; block += params.lanes) {
    let v = (segment.x >> 2u) + block * 8u;
    var v0 = values_at(v);
    var v1 = values_at(v + 1u);
    var v2 = values_at(v + 2u);
    var v3 = values_at(v + 3u);
    var v4 = values_at(v + 4u);
    var v5 = values_at(v + 5u);
    var v6 = values_at(v + 6u);
    var v7 = values_at(v + 7u);
    let length = segment.y - block * 32u;
    if (length < 32u) {
      v0 = tail(v0, 0u, length);
      v1 = tail(v1, 4u, length);
      v2 = tail(v2, 8u, length);
      v3 = tail(v3, 12u, length);
      v4 = tail(v4, 16u, length);
      v5 = tail(v5, 20u, length);
      v6 = tail(v6, 24u, length);
      v7 = tail(v7, 28u, length);
    }

    // as i32 the largest bits are the largest positive value, as u32 the negative value of largest magnitude
    var positives = max(max(max(bitcast<vec4i>(v0), bitcast<vec4i>(v1)), max(bitcast<vec4i>(v2), bitcast<vec4i>(v3))),
      max(max(bitcast<vec4i>(v4), bitcast<vec4i>(v5)), max(bitcast<vec4i>(v6), bitcast<vec4i>(v7))));
    var negatives = max(max(max(v0, v1), max(v2, v3)), max(max(v4, v5), max(v6, v7)));
    var positive = bitcast<u32>(max(max(max(positives.x, positives.y), max(positives.z, positives.w)), 0));
    var negative = max(max(negatives.x, negatives.y), max(negatives.z, negatives.w));

    if (max(positive, negative & ABS_MASK) >= INFINITY_BITS) {
      atomicAdd(&flags[segment.z * 2u], non_finite(v0) + non_finite(v1) + non_finite(v2) + non_finite(v3)
        + non_finite(v4) + non_finite(v5) + non_finite(v6) + non_finite(v7));
      v0 = finite(v0);
      v1 = finite(v1);
      v2 = finite(v2);
      v3 = finite(v3);
      v4 = finite(v4);
      v5 = finite(v5);
      v6 = finite(v6);
      v7 = finite(v7);
      positives = max(max(max(bitcast<vec4i>(v0), bitcast<vec4i>(v1)), max(bitcast<vec4i>(v2), bitcast<vec4i>(v3))),
        max(max(bitcast<vec4i>(v4), bitcast<vec4i>(v5)), max(bitcast<vec4i>(v6), bitcast<vec4i>(v7))));
      negatives = max(max(max(v0, v1), max(v2, v3)), max(max(v4, v5), max(v6, v7)));
      positive = bitcast<u32>(max(max(max(positives.x, positives.y), max(positives.z, positives.w)), 0));
      negative = max(max(negatives.x, negatives.y), max(negatives.z, negatives.w));
    }

    // without a negative value `negative` is the largest positive one again, which is then w* either way
    var extreme = select(negative, positive, positive > (negative & ABS_MASK));
    if (positive == (negative & ABS_MASK) && negative != positive) {
      var index_positive = 32u;
      var index_negative = 32u;
      index_positive = min(index_positive, min(first_index(v0, positive, 0u), first_index(v1, positive, 4u)));
      index_positive = min(index_positive, min(first_index(v2, positive, 8u), first_index(v3, positive, 12u)));
      index_positive = min(index_positive, min(first_index(v4, positive, 16u), first_index(v5, positive, 20u)));
      index_positive = min(index_positive, min(first_index(v6, positive, 24u), first_index(v7, positive, 28u)));
      index_negative = min(index_negative, min(first_index(v0, negative, 0u), first_index(v1, negative, 4u)));
      index_negative = min(index_negative, min(first_index(v2, negative, 8u), first_index(v3, negative, 12u)));
      index_negative = min(index_negative, min(first_index(v4, negative, 16u), first_index(v5, negative, 20u)));
      index_negative = min(index_negative, min(first_index(v6, negative, 24u), first_index(v7, negative, 28u)));
      extreme = select(negative, positive, index_positive < index_negative);
    }

    let tiny = (extreme & ABS_MASK) < TINY_BITS;
    let scale = select(bitcast<f32>(extreme) * -0.125, 0.0, tiny);
    // with reciprocal 0 every code is 8
    let inverse = vec4f(select(reciprocal(scale), 0.0, tiny));
    let output = segment.w + block;
    packed[output] = vec4u(codes(v0, v1, inverse), codes(v2, v3, inverse), codes(v4, v5, inverse), codes(v6, v7, inverse));
    scales[output] = scale;
    zero_points[output] = 8u;
  }
}
