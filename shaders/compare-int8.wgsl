// Dequantizes an 8-bit artifact, (q - zero point) * scale, and compares it with the original. The slot of chunk element i is its
// channel ((first_element + i) / inner) % channels.
// values (the original): f32 as bits; artifact: 4 codes a word; slots: [scale f32, zero point i32, 0, 0] a channel; stats: 8 words at stat_slot,
// [max |error| bits, zeros in original, zeros in artifact, compared, non-finite, 0, 0, 0], atomics; sums: [error^2, original^2,
// artifact^2, original * artifact] of each invocation, information only; params last.
// T = ceil(elements / elements_per_invocation) invocations; invocation g takes vec4s g, g + T, ...

struct Params {
  elements: u32, inner: u32, channels: u32, first_element: u32,
  is_signed: u32, stat_slot: u32, elements_per_invocation: u32, reserved: u32,
}

@group(0) @binding(1) var<storage, read> artifact: array<u32>;
@group(0) @binding(2) var<storage, read> slots: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> stats: array<atomic<u32>>;
@group(0) @binding(4) var<storage, read_write> sums: array<vec4f>;
@group(0) @binding(5) var<uniform> params: Params;

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
  let position = params.first_element + invocation * 4u;
  var inside_channel = position % params.inner;
  var channel = (position / params.inner) % params.channels;
  let step_inside = (invocations * 4u) % params.inner;
  let step_channel = ((invocations * 4u) / params.inner) % params.channels;
  let one_slot = params.channels == 1u || (params.inner % 4u == 0u && params.first_element % 4u == 0u);

  var comparison = Comparison();
  for (var v = invocation; v < count; v += invocations) {
    var scale = vec4f(0.0);
    var zero_point = vec4i(0);
    if (one_slot) {
      let slot = slots[channel];
      scale = vec4f(bitcast<f32>(slot.x));
      zero_point = vec4i(bitcast<i32>(slot.y));
    } else {
      var at = inside_channel;
      var element_channel = channel;
      for (var c = 0u; c < 4u; c++) {
        let slot = slots[element_channel];
        scale[c] = bitcast<f32>(slot.x);
        zero_point[c] = bitcast<i32>(slot.y);
        at++;
        if (at == params.inner) {
          at = 0u;
          element_channel = select(element_channel + 1u, 0u, element_channel + 1u == params.channels);
        }
      }
    }
    let word = artifact[v];
    var code = vec4i((vec4u(word) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u));
    if (params.is_signed != 0u) {
      code = (code << vec4u(24u)) >> vec4u(24u);
    }
    // the clamp parts the multiply from the subtraction, which adapters may contract
    let dequantized = clamp(vec4f(code - zero_point) * scale, -MAX_FLOAT, MAX_FLOAT);
    add_vec4(&comparison, vec4u(v * 4u) + COMPONENT < vec4u(params.elements), values_at(v), bitcast<vec4u>(dequantized));

    inside_channel += step_inside;
    channel += step_channel;
    if (inside_channel >= params.inner) {
      inside_channel -= params.inner;
      channel++;
    }
    if (channel >= params.channels) {
      channel -= params.channels;
    }
  }
  write_comparison(comparison, params.stat_slot, invocation);
}
