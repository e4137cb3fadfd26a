// Dequantizes a block-packed artifact, (code - zero point) * scale of its block, and compares it with the original in its stored
// order: element e = first_element + i is (row, along) = (e / k, e % k), or (e % n, e / n) with order 1 ([K,N]); its block is
// row * ceil(k / block_size) + along / block_size - block_base. block_size is a power of two.
// values (the original): f32 as bits; packed: codes, low bits first; scales: f32 a block; zero_points: u32 a block; stats: 8 words at stat_slot,
// [max |error| bits, zeros in original, zeros in artifact, compared, non-finite, 0, 0, 0], atomics; sums: [error^2, original^2,
// artifact^2, original * artifact] of each invocation, information only; params last.
// T = ceil(elements / elements_per_invocation) invocations; invocation g takes vec4s g, g + T, ...

struct Params {
  elements: u32, first_element: u32, k: u32, n: u32,
  order: u32, bits: u32, block_size: u32, stat_slot: u32,
  elements_per_invocation: u32, block_base: u32, reserved0: u32, reserved1: u32,
}

@group(0) @binding(1) var<storage, read> packed: array<u32>;
@group(0) @binding(2) var<storage, read> scales: array<f32>;
@group(0) @binding(3) var<storage, read> zero_points: array<u32>;
@group(0) @binding(4) var<storage, read_write> stats: array<atomic<u32>>;
@group(0) @binding(5) var<storage, read_write> sums: array<vec4f>;
@group(0) @binding(6) var<uniform> params: Params;

const COMPONENT = vec4u(0u, 1u, 2u, 3u);
const MAX_FLOAT = vec4f(3.4028234663852886e38);

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let invocation = (group.y * groups.x + group.x) * 64u + local;
  if (params.elements == 0u) {
    return;
  }
  let invocations = (params.elements + params.elements_per_invocation - 1u) / params.elements_per_invocation;
  if (invocation >= invocations) {
    return;
  }
  let count = (params.elements + 3u) / 4u;
  let transposed = params.order == 1u;
  let block_shift = countTrailingZeros(params.block_size);
  let blocks_per_row = (params.k + params.block_size - 1u) >> block_shift;
  let words = (params.block_size * params.bits) / 32u;
  let code_mask = (1u << params.bits) - 1u;
  // (major, minor): row-major coordinates of the vec4's first element, and what T vec4s add to them
  let minor_size = select(params.k, params.n, transposed);
  let position = params.first_element + invocation * 4u;
  var minor = position % minor_size;
  var major = position / minor_size;
  let step_minor = (invocations * 4u) % minor_size;
  let step_major = (invocations * 4u) / minor_size;

  var comparison = Comparison();
  for (var v = invocation; v < count; v += invocations) {
    var scale = vec4f(0.0);
    var code = vec4i(0);
    var at_minor = minor;
    var at_major = major;
    for (var c = 0u; c < 4u && v * 4u + c < params.elements; c++) {
      let row = select(at_major, at_minor, transposed);
      let along = select(at_minor, at_major, transposed);
      let block = row * blocks_per_row + (along >> block_shift) - params.block_base;
      let bit = (along & (params.block_size - 1u)) * params.bits;
      let stored = (packed[block * words + (bit >> 5u)] >> (bit & 31u)) & code_mask;
      code[c] = i32(stored) - i32(zero_points[block]);
      scale[c] = scales[block];
      at_minor++;
      if (at_minor == minor_size) {
        at_minor = 0u;
        at_major++;
      }
    }
    // the clamp parts the multiply from the subtraction, which adapters may contract
    let dequantized = clamp(vec4f(code) * scale, -MAX_FLOAT, MAX_FLOAT);
    add_vec4(&comparison, vec4u(v * 4u) + COMPONENT < vec4u(params.elements), values_at(v), bitcast<vec4u>(dequantized));

    minor += step_minor;
    major += step_major;
    if (minor >= minor_size) {
      minor -= minor_size;
      major++;
    }
  }
  write_comparison(comparison, params.stat_slot, invocation);
}
