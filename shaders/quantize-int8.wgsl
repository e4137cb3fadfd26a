// 8-bit quantization with a scale and zero point by slot, and a dead zone:
//   q = clamp(roundHalfEven(x * inverse_scale), low, high) + zero point; |x| bits <= dead_zone: q = zero point;
//   else, with min_magnitude 1, a q that rounded to the zero point becomes zero point + sign(x). NaN and infinities count as 0.
// values: f32 as bits; segments: [start, length, slot, aux]; slots: 2 vec4 a slot, [inverse_scale, low, high, magic],
// [dead_zone, min_magnitude, 0, 0]; out: 4 codes a word; params last. magic = 1.5 * 2^23 + zero point leaves the code in the low
// byte of the sum; the clamp keeps the multiply and the add from being contracted.
// An invocation takes vec4s lane, lane + lanes, ... of its segment. Starts are multiples of 4; codes behind the end are 0.

struct Params { segment_count: u32, lanes: u32, reserved0: u32, reserved1: u32 }

@group(0) @binding(0) var<storage, read> values: array<vec4u>;
@group(0) @binding(1) var<storage, read> segments: array<vec4u>;
@group(0) @binding(2) var<storage, read> slots: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;
@group(0) @binding(4) var<uniform> params: Params;

const ABS_MASK = vec4u(0x7fffffffu);
const INFINITY_BITS = vec4u(0x7f800000u);

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
  let first = segment.x >> 2u;
  let count = (segment.y + 3u) >> 2u;
  let slot = bitcast<vec4f>(slots[segment.z * 2u]);
  let inverse_scale = vec4f(slot.x);
  let low = vec4f(slot.y);
  let high = vec4f(slot.z);
  let magic = vec4f(slot.w);
  let rule = slots[segment.z * 2u + 1u].xy;
  let has_rule = any(rule != vec2u(0u));
  let zero_code = bitcast<vec4u>(magic);

  for (var v = invocation % params.lanes; v < count; v += params.lanes) {
    let loaded = values[first + v];
    let bits = select(loaded, vec4u(0u), (loaded & ABS_MASK) >= INFINITY_BITS);
    var code = bitcast<vec4u>(clamp(bitcast<vec4f>(bits) * inverse_scale, low, high) + magic);
    if (has_rule) {
      let moved = select(zero_code + 1u, zero_code - 1u, bits >= vec4u(0x80000000u));
      code = select(code, moved, (code == zero_code) & vec4<bool>(rule.y == 1u));
      code = select(code, zero_code, (bits & ABS_MASK) <= vec4u(rule.x));
    }
    code &= vec4u(255u);
    var word = code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
    if (v * 4u + 4u > segment.y) {
      word &= (1u << ((segment.y & 3u) * 8u)) - 1u;
    }
    out[first + v] = word;
  }
}
