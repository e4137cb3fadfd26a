// 4- or 8-bit quantization in blocks of block_size consecutive elements (a power of two, 16 to 512):
//   symmetric:  scale = w* / -2^(bits-1), w* the element of largest magnitude (the first of equals), zero point 2^(bits-1)
//   asymmetric: scale = (hi - lo) * f32(1 / (2^bits - 1)), zero point = clamp(roundHalfEven(-lo / scale)), lo <= 0 <= hi
//   code = clamp(roundHalfEven(w / scale) + zero point, 0, 2^bits - 1); |w*| or hi - lo < 1e-30: scale 0, codes 2^(bits-1)
// shrink_count > 1: the clipping factor f32(20 - s) * f32(0.05) of least squared error, counted in integers (see cost_at).
// values: f32 as bits; segments: [start, length, slot, first block]; packed: block_size * bits / 32 words a block, low bits first;
// scales: f32 a block; zero_points: u32 a block; flags: [non-finite, 0] a slot, atomics; params last.
// An invocation takes blocks lane, lane + lanes, ... of its segment and reads each two times (and once for each factor tried).
// A short last block is padded with 0. NaN and infinities count as 0 and are counted.

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
const MAX_BITS = 0x7f7fffffu;
const TINY_BITS = 0x0da24260u;
const COMPONENT = vec4u(0u, 1u, 2u, 3u);
const ROUND_MAGIC = 12582912.0;

// elements [index, index + 4) as they are; 0 from `end` on
fn load_raw(index: u32, end: u32) -> vec4u {
  var bits = vec4u(0u);
  if ((index & 3u) == 0u) {
    bits = values_at(index >> 2u);
  } else {
    let next = vec4u(index) + COMPONENT;
    bits = vec4u(
      values_at(next.x >> 2u)[next.x & 3u],
      values_at(next.y >> 2u)[next.y & 3u],
      values_at(next.z >> 2u)[next.z & 3u],
      values_at(next.w >> 2u)[next.w & 3u],
    );
  }
  if (index + 4u > end) {
    bits = select(vec4u(0u), bits, vec4u(index) + COMPONENT < vec4u(end));
  }
  return bits;
}

// the same with NaN and infinities as 0; blocks without any skip the test
fn load(index: u32, end: u32, has_non_finite: bool) -> vec4u {
  let bits = load_raw(index, end);
  if (!has_non_finite) {
    return bits;
  }
  return select(bits, vec4u(0u), (bits & vec4u(ABS_MASK)) >= vec4u(INFINITY_BITS));
}

// bits of the largest positive value (or 0) and of the negative value of largest magnitude (or below 0x80000000)
fn extremes_of(first: u32, end: u32, has_non_finite: bool) -> vec2u {
  var positives = vec4i(0);
  var negatives = vec4u(0u);
  for (var i = 0u; i < params.block_size; i += 4u) {
    let bits = load(first + i, end, has_non_finite);
    positives = max(positives, bitcast<vec4i>(bits));
    negatives = max(negatives, bits);
  }
  return vec2u(
    bitcast<u32>(max(max(positives.x, positives.y), max(positives.z, positives.w))),
    max(max(negatives.x, negatives.y), max(negatives.z, negatives.w)),
  );
}

fn non_finite_of(first: u32, end: u32) -> u32 {
  var count = vec4u(0u);
  for (var i = 0u; i < params.block_size; i += 4u) {
    count += vec4u((load_raw(first + i, end) & vec4u(ABS_MASK)) >= vec4u(INFINITY_BITS));
  }
  return count.x + count.y + count.z + count.w;
}

// which of two bit patterns comes first in the block
fn first_of(first: u32, end: u32, a: u32, b: u32) -> u32 {
  for (var i = first; i < end; i++) {
    let bits = values_at(i >> 2u)[i & 3u];
    if (bits == a || bits == b) {
      return bits;
    }
  }
  return a;
}

struct Scale { scale: f32, inverse: f32, zero_point: f32 }

// scale and zero point with w*, or lo and hi, times `factor`
fn scale_at(extreme: f32, low: f32, high: f32, factor: f32) -> Scale {
  let middle = f32(1u << (params.bits - 1u));
  if (params.asymmetric == 0u) {
    // 1 / middle is a power of two: exact
    let scale = (extreme * factor) * -(1.0 / middle);
    return Scale(scale, reciprocal(scale), middle);
  }
  // clamps part multiplies from adds, which adapters may contract
  let scaled_low = clamp(low * factor, bitcast<f32>(0xff7fffffu), 0.0);
  let scaled_high = clamp(high * factor, 0.0, bitcast<f32>(MAX_BITS));
  let range = bitcast<f32>(min(bitcast<u32>(scaled_high - scaled_low), MAX_BITS));
  let scale = range * select(bitcast<f32>(0x3b808081u), bitcast<f32>(0x3d888889u), params.bits == 4u);
  let inverse = reciprocal(scale);
  let code_max = f32((1u << params.bits) - 1u);
  let rounded = bitcast<u32>(clamp(-scaled_low * inverse, 0.0, code_max) + ROUND_MAGIC) & 0xffffu;
  return Scale(scale, inverse, f32(rounded));
}

fn code_bits(bits: vec4u, s: Scale) -> vec4u {
  let code_max = f32((1u << params.bits) - 1u);
  let scaled = clamp(bitcast<vec4f>(bits) * s.inverse, vec4f(-s.zero_point), vec4f(code_max - s.zero_point));
  return (bitcast<vec4u>(scaled + vec4f(ROUND_MAGIC)) + vec4u(u32(s.zero_point))) & vec4u((1u << params.bits) - 1u);
}

// f32(sum of floor(min(|t - q|, 16) * 128)^2) * factor * factor: the squared error in units that every adapter counts alike
fn cost_at(first: u32, end: u32, s: Scale, factor: f32, has_non_finite: bool) -> f32 {
  var sums = vec4u(0u);
  for (var i = 0u; i < params.block_size; i += 4u) {
    let bits = load(first + i, end, has_non_finite);
    let scaled = clamp(bitcast<vec4f>(bits) * s.inverse, vec4f(-4096.0), vec4f(4096.0));
    let code = vec4f(code_bits(bits, s)) - vec4f(s.zero_point);
    let units = vec4u(min(abs(scaled - code), vec4f(16.0)) * 128.0);
    sums += units * units;
  }
  let sum = sums.x + sums.y + sums.z + sums.w;
  // u32 to f32 may round either way; two exact halves and one add round to nearest even
  let rounded = f32(sum >> 12u) * 4096.0 + f32(sum & 4095u);
  // the clamp keeps the two multiplies in this order
  return clamp(rounded * factor, 0.0, bitcast<f32>(MAX_BITS)) * factor;
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
  let end = segment.x + segment.y;
  let blocks = (segment.y + params.block_size - 1u) / params.block_size;
  let middle = 1u << (params.bits - 1u);
  let words = (params.block_size * params.bits) / 32u;
  for (var block = invocation % params.lanes; block < blocks; block += params.lanes) {
    let first = segment.x + block * params.block_size;
    let block_end = min(first + params.block_size, end);
    var extremes = extremes_of(first, block_end, false);
    let has_non_finite = max(extremes.x, extremes.y & ABS_MASK) >= INFINITY_BITS;
    if (has_non_finite) {
      atomicAdd(&flags[segment.z * 2u], non_finite_of(first, block_end));
      extremes = extremes_of(first, block_end, true);
    }
    let positive = extremes.x;
    let negative = extremes.y;
    var extreme = select(negative, positive, positive > (negative & ABS_MASK));
    if (positive == (negative & ABS_MASK) && negative != positive && params.asymmetric == 0u) {
      extreme = first_of(first, block_end, positive, negative);
    }
    let low = bitcast<f32>(select(0u, negative, negative > 0x80000000u));
    let high = bitcast<f32>(positive);
    let output = segment.w + block;
    let range = select(extreme & ABS_MASK, bitcast<u32>(high - low), params.asymmetric != 0u);
    if (range < TINY_BITS) {
      let word = select(0x80808080u, 0x88888888u, params.bits == 4u);
      for (var w = 0u; w < words; w++) {
        packed[output * words + w] = word;
      }
      scales[output] = 0.0;
      zero_points[output] = middle;
      continue;
    }

    var best = scale_at(bitcast<f32>(extreme), low, high, 1.0);
    if (params.shrink_count > 1u) {
      var best_cost = cost_at(first, block_end, best, 1.0, has_non_finite);
      for (var step = 1u; step < min(params.shrink_count, 20u); step++) {
        let factor = f32(20u - step) * 0.05;
        let candidate = scale_at(bitcast<f32>(extreme), low, high, factor);
        let cost = cost_at(first, block_end, candidate, factor, has_non_finite);
        if (cost < best_cost) {
          best_cost = cost;
          best = candidate;
        }
      }
    }
    for (var w = 0u; w < words; w++) {
      var word = 0u;
      if (params.bits == 4u) {
        let a = code_bits(load(first + w * 8u, block_end, has_non_finite), best);
        let b = code_bits(load(first + w * 8u + 4u, block_end, has_non_finite), best);
        let both = a | (b << vec4u(16u));
        word = both.x | (both.y << 4u) | (both.z << 8u) | (both.w << 12u);
      } else {
        let a = code_bits(load(first + w * 4u, block_end, has_non_finite), best);
        word = a.x | (a.y << 8u) | (a.z << 16u) | (a.w << 24u);
      }
      packed[output * words + w] = word;
    }
    scales[output] = best.scale;
    zero_points[output] = u32(best.zero_point);
  }
}
