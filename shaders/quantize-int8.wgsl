// 8-bit quantization with a scale and zero point by slot, and a dead zone:
//   q = roundHalfEven(clamp(x * inverse_scale, low, high)) + zero point; |x| bits <= dead_zone: q = zero point;
//   else, with min_magnitude 1, a q that rounded to the zero point becomes zero point + sign(x). NaN and infinities count as 0.
// values: f32 as bits; segments: [start, length, slot, aux]; slots: 2 vec4 a slot, [inverse_scale, low, high, magic],
// [dead_zone, min_magnitude, 0, 0] with magic = 1.5 * 2^23 + zero point; out: 4 codes a word; params last.
// Adding 1.5 * 2^23 rounds; the clamp keeps multiply and add from being contracted. Zero points and the upper bits of the four
// sums are settled once for a word: q + bias is in 0..255 in each byte, so nothing carries from one to the next.
// An invocation takes vec4s lane, lane + lanes, ... of its segment. Starts are multiples of 4; codes behind the end are 0.

struct Params { segment_count: u32, lanes: u32, reserved0: u32, reserved1: u32 }

@group(0) @binding(1) var<storage, read> segments: array<vec4u>;
@group(0) @binding(2) var<storage, read> slots: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> out: array<u32>;
@group(0) @binding(4) var<uniform> params: Params;

const ABS_MASK = vec4u(0x7fffffffu);
const INFINITY_BITS = vec4u(0x7f800000u);
const ROUND_MAGIC = vec4f(12582912.0);
const ROUNDED_ZERO = 0x4b400000u;

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
  let zero_point = bitcast<u32>(slot.w) - ROUNDED_ZERO;
  // codes below 0 are packed 128 higher and turned back by their top bit
  let is_signed = slot.y + (slot.w - ROUND_MAGIC.x) < 0.0;
  let flip = select(0u, 0x80808080u, is_signed);
  let offset = (zero_point + select(0u, 128u, is_signed) - ROUNDED_ZERO) * 0x01010101u;
  let rule = slots[segment.z * 2u + 1u].xy;
  let has_rule = any(rule != vec2u(0u));

  for (var v = invocation % params.lanes; v < count; v += params.lanes) {
    let loaded = values_at(first + v);
    let bits = select(loaded, vec4u(0u), (loaded & ABS_MASK) >= INFINITY_BITS);
    var code = bitcast<vec4u>(clamp(bitcast<vec4f>(bits) * inverse_scale, low, high) + ROUND_MAGIC);
    if (has_rule) {
      let moved = select(vec4u(ROUNDED_ZERO + 1u), vec4u(ROUNDED_ZERO - 1u), bits >= vec4u(0x80000000u));
      code = select(code, moved, (code == vec4u(ROUNDED_ZERO)) & vec4<bool>(rule.y == 1u));
      code = select(code, vec4u(ROUNDED_ZERO), (bits & ABS_MASK) <= vec4u(rule.x));
    }
    var word = (code.x + (code.y << 8u) + (code.z << 16u) + (code.w << 24u) + offset) ^ flip;
    if (v * 4u + 4u > segment.y) {
      word &= (1u << ((segment.y & 3u) * 8u)) - 1u;
    }
    out[first + v] = word;
  }
}
