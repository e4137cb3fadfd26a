// quantize-int8 where the slot of chunk element i is its channel ((first_element + i) / inner) % channels.
// values: f32 as bits; slots: 2 vec4 a slot as in quantize-int8.wgsl; out: code i in byte i, 0 behind the end; params last.
// Three ways through a chunk, all for any number of invocations that is at least ceil(channels / 4) when inner is 1:
//   columns (inner 1, channels and first_element multiples of 4): an invocation keeps 4 columns and their slots in registers;
//   rows    (inner and first_element multiples of 4): a slot a vec4, read again only where the channel changes;
//   any     otherwise: a slot for each element.

struct Params { elements: u32, inner: u32, channels: u32, first_element: u32 }

@group(0) @binding(1) var<storage, read> slots: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(0) @binding(3) var<uniform> params: Params;

const ABS_MASK = vec4u(0x7fffffffu);
const INFINITY_BITS = vec4u(0x7f800000u);
const ROUND_MAGIC = vec4f(12582912.0);
const ROUNDED_ZERO = 0x4b400000u;

// the slots of four elements, component by component
struct Slots4 {
  inverse_scale: vec4f,
  low: vec4f,
  high: vec4f,
  dead_zone: vec4u,
  min_magnitude: vec4u,
  // what makes codes of the four sums, see quantize-int8.wgsl
  offset: u32,
  flip: u32,
  has_rule: bool,
}

fn slots_from(inverse_scale: vec4f, low: vec4f, high: vec4f, magic: vec4f, dead_zone: vec4u, min_magnitude: vec4u) -> Slots4 {
  let is_signed = low + (magic - ROUND_MAGIC) < vec4f(0.0);
  let bias = bitcast<vec4u>(magic) - vec4u(ROUNDED_ZERO) + select(vec4u(0u), vec4u(128u), is_signed) - vec4u(ROUNDED_ZERO);
  let sign = select(vec4u(0u), vec4u(0x80u), is_signed);
  let offset = bias.x + (bias.y << 8u) + (bias.z << 16u) + (bias.w << 24u);
  let flip = sign.x + (sign.y << 8u) + (sign.z << 16u) + (sign.w << 24u);
  let has_rule = any((dead_zone | min_magnitude) != vec4u(0u));
  return Slots4(inverse_scale, low, high, dead_zone, min_magnitude, offset, flip, has_rule);
}

fn slots_of(channel: vec4u) -> Slots4 {
  let a = bitcast<vec4f>(slots[channel.x * 2u]);
  let b = bitcast<vec4f>(slots[channel.y * 2u]);
  let c = bitcast<vec4f>(slots[channel.z * 2u]);
  let d = bitcast<vec4f>(slots[channel.w * 2u]);
  let a_rule = slots[channel.x * 2u + 1u];
  let b_rule = slots[channel.y * 2u + 1u];
  let c_rule = slots[channel.z * 2u + 1u];
  let d_rule = slots[channel.w * 2u + 1u];
  return slots_from(
    vec4f(a.x, b.x, c.x, d.x),
    vec4f(a.y, b.y, c.y, d.y),
    vec4f(a.z, b.z, c.z, d.z),
    vec4f(a.w, b.w, c.w, d.w),
    vec4u(a_rule.x, b_rule.x, c_rule.x, d_rule.x),
    vec4u(a_rule.y, b_rule.y, c_rule.y, d_rule.y),
  );
}

fn slot_of(channel: u32) -> Slots4 {
  let slot = bitcast<vec4f>(slots[channel * 2u]);
  let rule = slots[channel * 2u + 1u];
  return slots_from(vec4f(slot.x), vec4f(slot.y), vec4f(slot.z), vec4f(slot.w), vec4u(rule.x), vec4u(rule.y));
}

fn write_codes(v: u32, slot: Slots4) {
  let loaded = values_at(v);
  let bits = select(loaded, vec4u(0u), (loaded & ABS_MASK) >= INFINITY_BITS);
  var code = bitcast<vec4u>(clamp(bitcast<vec4f>(bits) * slot.inverse_scale, slot.low, slot.high) + ROUND_MAGIC);
  if (slot.has_rule) {
    let moved = select(vec4u(ROUNDED_ZERO + 1u), vec4u(ROUNDED_ZERO - 1u), bits >= vec4u(0x80000000u));
    code = select(code, moved, (code == vec4u(ROUNDED_ZERO)) & (slot.min_magnitude == vec4u(1u)));
    code = select(code, vec4u(ROUNDED_ZERO), (bits & ABS_MASK) <= slot.dead_zone);
  }
  var word = (code.x + (code.y << 8u) + (code.z << 16u) + (code.w << 24u) + slot.offset) ^ slot.flip;
  if (v * 4u + 4u > params.elements) {
    word &= (1u << ((params.elements & 3u) * 8u)) - 1u;
  }
  out[v] = word;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let invocation = (group.y * groups.x + group.x) * 64u + local;
  let invocations = groups.x * groups.y * 64u;
  let count = (params.elements + 3u) / 4u;
  if (count == 0u) {
    return;
  }
  let aligned = params.first_element % 4u == 0u;

  if (aligned && params.inner == 1u && params.channels % 4u == 0u) {
    let quads = params.channels / 4u;
    let row_groups = invocations / quads;
    if (invocation >= row_groups * quads) {
      return;
    }
    let channel = ((params.first_element / 4u + invocation) % quads) * 4u;
    let slot = slots_of(vec4u(channel, channel + 1u, channel + 2u, channel + 3u));
    // neighbouring rows, so that a software adapter stays in a few pages
    let rows = (count + quads - 1u) / quads;
    let rows_each = (rows + row_groups - 1u) / row_groups;
    let first = invocation % quads + (invocation / quads) * rows_each * quads;
    let end = min(count, first + rows_each * quads);
    for (var v = first; v < end; v += quads) {
      write_codes(v, slot);
    }
    return;
  }

  // 8 invocations share a run of neighbouring vec4s and take them in turn
  let each = (count + invocations - 1u) / invocations;
  let run = (invocation / 8u) * 8u * each;
  let first = run + invocation % 8u;
  let end = min(count, run + 8u * each);
  // position of the vec4's first element in the channel pattern, and what 8 vec4s add to it
  let position = params.first_element + first * 4u;
  var inside = position % params.inner;
  var channel = (position / params.inner) % params.channels;
  let step_inside = 32u % params.inner;
  let step_channel = (32u / params.inner) % params.channels;
  if (aligned && params.inner % 4u == 0u) {
    var slot = slot_of(channel);
    var slot_channel = channel;
    for (var v = first; v < end; v += 8u) {
      if (channel != slot_channel) {
        slot = slot_of(channel);
        slot_channel = channel;
      }
      write_codes(v, slot);
      inside += step_inside;
      channel += step_channel;
      if (inside >= params.inner) {
        inside -= params.inner;
        channel++;
      }
      if (channel >= params.channels) {
        channel -= params.channels;
      }
    }
    return;
  }
  for (var v = first; v < end; v += 8u) {
    var channels = vec4u(channel);
    var at = inside;
    for (var c = 1u; c < 4u; c++) {
      at++;
      if (at == params.inner) {
        at = 0u;
        channels[c] = select(channels[c - 1u] + 1u, 0u, channels[c - 1u] + 1u == params.channels);
      } else {
        channels[c] = channels[c - 1u];
      }
    }
    write_codes(v, slots_of(channels));
    inside += step_inside;
    channel += step_channel;
    if (inside >= params.inner) {
      inside -= params.inner;
      channel++;
    }
    if (channel >= params.channels) {
      channel -= params.channels;
    }
  }
}
