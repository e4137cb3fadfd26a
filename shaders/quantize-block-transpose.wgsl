// Block quantization down the columns of a row-major [rows, n] piece of a [K,N] weight, written in [N,K] block order; formulas as
// in quantize-block.wgsl. Column c, block b of the piece: local = c * blocks_per_column + first_block + b; packed words from
// packed_word_base + local * block_size * bits / 32 on, scales and zero_points at block_base + local.
// values: f32 as bits; packed, scales (f32), zero_points (u32); flags: [non-finite, 0] at `slot`, atomics; params last.
// An invocation takes 4 neighbouring columns of one block, one in each vector component, and reads them two times (and once for
// each clipping factor tried). Rows and columns beyond the piece are read as 0. With n and values_start multiples of 4 it loads vec4s.

struct Params {
  rows: u32, n: u32, first_block: u32, blocks_per_column: u32,
  bits: u32, block_size: u32, asymmetric: u32, shrink_count: u32,
  values_start: u32, packed_word_base: u32, block_base: u32, slot: u32,
}

@group(0) @binding(1) var<storage, read_write> packed: array<u32>;
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;
@group(0) @binding(3) var<storage, read_write> zero_points: array<u32>;
@group(0) @binding(4) var<storage, read_write> flags: array<atomic<u32>>;
@group(0) @binding(5) var<uniform> params: Params;

const ABS_MASK = vec4u(0x7fffffffu);
const INFINITY_BITS = vec4u(0x7f800000u);
const MAX_BITS = vec4u(0x7f7fffffu);
const TINY_BITS = vec4u(0x0da24260u);
const SIGN_BIT = vec4u(0x80000000u);
const ROUND_MAGIC = 12582912.0;

fn element(index: u32, there: bool) -> u32 {
  if (!there) {
    return 0u;
  }
  return values_at(index >> 2u)[index & 3u];
}

fn load_raw(row: u32, col: u32) -> vec4u {
  if (row >= params.rows) {
    return vec4u(0u);
  }
  let index = params.values_start + row * params.n + col;
  if (((params.n | params.values_start) & 3u) == 0u) {
    return values_at(index >> 2u);
  }
  return vec4u(
    element(index, true),
    element(index + 1u, col + 1u < params.n),
    element(index + 2u, col + 2u < params.n),
    element(index + 3u, col + 3u < params.n),
  );
}

fn load(row: u32, col: u32) -> vec4u {
  let bits = load_raw(row, col);
  return select(bits, vec4u(0u), (bits & ABS_MASK) >= INFINITY_BITS);
}

struct Scale { scale: vec4f, inverse: vec4f, zero_point: vec4f }

fn scale_at(extreme: vec4f, low: vec4f, high: vec4f, factor: f32) -> Scale {
  let middle = f32(1u << (params.bits - 1u));
  if (params.asymmetric == 0u) {
    let scale = (extreme * factor) * -(1.0 / middle);
    return Scale(scale, reciprocal(scale), vec4f(middle));
  }
  let scaled_low = clamp(low * factor, vec4f(bitcast<f32>(0xff7fffffu)), vec4f(0.0));
  let scaled_high = clamp(high * factor, vec4f(0.0), bitcast<vec4f>(MAX_BITS));
  let range = bitcast<vec4f>(min(bitcast<vec4u>(scaled_high - scaled_low), MAX_BITS));
  let scale = range * select(bitcast<f32>(0x3b808081u), bitcast<f32>(0x3d888889u), params.bits == 4u);
  let inverse = reciprocal(scale);
  let code_max = f32((1u << params.bits) - 1u);
  let rounded = clamp(-scaled_low * inverse, vec4f(0.0), vec4f(code_max)) + vec4f(ROUND_MAGIC);
  return Scale(scale, inverse, vec4f(bitcast<vec4u>(rounded) & vec4u(0xffffu)));
}

fn code_bits(bits: vec4u, s: Scale) -> vec4u {
  let code_max = f32((1u << params.bits) - 1u);
  let scaled = clamp(bitcast<vec4f>(bits) * s.inverse, -s.zero_point, vec4f(code_max) - s.zero_point);
  return (bitcast<vec4u>(scaled + vec4f(ROUND_MAGIC)) + vec4u(s.zero_point)) & vec4u((1u << params.bits) - 1u);
}

fn cost_at(row: u32, col: u32, s: Scale, factor: f32) -> vec4f {
  var sums = vec4u(0u);
  for (var i = 0u; i < params.block_size; i++) {
    let bits = load(row + i, col);
    let scaled = clamp(bitcast<vec4f>(bits) * s.inverse, vec4f(-4096.0), vec4f(4096.0));
    let code = vec4f(code_bits(bits, s)) - s.zero_point;
    let units = vec4u(min(abs(scaled - code), vec4f(16.0)) * 128.0);
    sums += units * units;
  }
  let rounded = vec4f(sums >> vec4u(12u)) * 4096.0 + vec4f(sums & vec4u(4095u));
  // the clamp keeps the two multiplies in this order
  return clamp(rounded * factor, vec4f(0.0), bitcast<vec4f>(MAX_BITS)) * factor;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let invocation = (group.y * groups.x + group.x) * 64u + local;
  let quads = (params.n + 3u) / 4u;
  if (quads == 0u) {
    return;
  }
  let block = invocation / quads;
  let row = block * params.block_size;
  if (row >= params.rows) {
    return;
  }
  let col = (invocation % quads) * 4u;

  var positives = vec4i(0);
  var negatives = vec4u(0u);
  var non_finite = vec4u(0u);
  // the extreme of each column with its sign; a later one must be larger, so that the first of equals stays
  var extreme = vec4u(0u);
  for (var i = 0u; i < params.block_size; i++) {
    let raw = load_raw(row + i, col);
    let is_finite = (raw & ABS_MASK) < INFINITY_BITS;
    let bits = select(vec4u(0u), raw, is_finite);
    non_finite += select(vec4u(1u), vec4u(0u), is_finite);
    positives = max(positives, bitcast<vec4i>(bits));
    negatives = max(negatives, bits);
    extreme = select(extreme, bits, (bits & ABS_MASK) > (extreme & ABS_MASK));
  }
  let non_finite_count = non_finite.x + non_finite.y + non_finite.z + non_finite.w;
  if (non_finite_count != 0u) {
    atomicAdd(&flags[params.slot * 2u], non_finite_count);
  }

  let low = bitcast<vec4f>(select(vec4u(0u), negatives, negatives > SIGN_BIT));
  let high = bitcast<vec4f>(positives);
  let range = select(extreme & ABS_MASK, bitcast<vec4u>(high - low), vec4<bool>(params.asymmetric != 0u));
  let tiny = range < TINY_BITS;
  var best = scale_at(bitcast<vec4f>(extreme), low, high, 1.0);
  if (params.shrink_count > 1u) {
    var best_cost = cost_at(row, col, best, 1.0);
    for (var step = 1u; step < min(params.shrink_count, 20u); step++) {
      let factor = f32(20u - step) * 0.05;
      let candidate = scale_at(bitcast<vec4f>(extreme), low, high, factor);
      let cost = cost_at(row, col, candidate, factor);
      let better = cost < best_cost;
      best_cost = select(best_cost, cost, better);
      best.scale = select(best.scale, candidate.scale, better);
      best.inverse = select(best.inverse, candidate.inverse, better);
      best.zero_point = select(best.zero_point, candidate.zero_point, better);
    }
  }
  // with reciprocal 0 every code is the zero point
  best.scale = select(best.scale, vec4f(0.0), tiny);
  best.inverse = select(best.inverse, vec4f(0.0), tiny);
  best.zero_point = select(best.zero_point, vec4f(f32(1u << (params.bits - 1u))), tiny);

  let words = (params.block_size * params.bits) / 32u;
  let per_word = 32u / params.bits;
  let columns = min(4u, params.n - col);
  let local_block = col * params.blocks_per_column + params.first_block + block;
  for (var w = 0u; w < words; w++) {
    var word = vec4u(0u);
    for (var i = 0u; i < per_word; i++) {
      word |= code_bits(load(row + w * per_word + i, col), best) << vec4u(i * params.bits);
    }
    for (var c = 0u; c < columns; c++) {
      packed[params.packed_word_base + (local_block + c * params.blocks_per_column) * words + w] = word[c];
    }
  }
  for (var c = 0u; c < columns; c++) {
    let output = params.block_base + local_block + c * params.blocks_per_column;
    scales[output] = best.scale[c];
    zero_points[output] = u32(best.zero_point[c]);
  }
}
