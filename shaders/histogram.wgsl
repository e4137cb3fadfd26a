// Exact counts of |x| bit patterns: bin = (|x| bits >> shift) & (bins - 1), for finite values whose bits above prefix_shift equal
// the prefix of their slot (prefix_shift 32: all finite values). 2048 counters a slot.
// values: f32 as bits; segments: [start, length, slot, aux]; prefixes: 1 word a slot; counts: 2048 words a slot, atomics;
// params last. With channel_count > 0 the slot is the element's channel ((aux + i) / channel_inner) % channel_count.
// An invocation takes vec4s lane, lane + lanes, ... of its segment; elements outside of it are read as NaN, which is not counted.

struct Params {
  segment_count: u32, lanes: u32, shift: u32, prefix_shift: u32,
  channel_inner: u32, channel_count: u32, slot_base: u32, slot_count: u32,
}

@group(0) @binding(0) var<storage, read> values: array<vec4u>;
@group(0) @binding(1) var<storage, read> segments: array<vec4u>;
@group(0) @binding(2) var<storage, read> prefixes: array<u32>;
@group(0) @binding(3) var<storage, read_write> counts: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> params: Params;

const INFINITY_BITS = 0x7f800000u;
const BINS = 2048u;
const COMPONENT = vec4u(0u, 1u, 2u, 3u);
const NONE = vec4u(0u);
const ALL = vec4u(0xffffffffu);

// |x| has no sign bit, so at shift 31 every value has prefix 0
fn is_counted(magnitude: u32, prefix: u32) -> bool {
  return magnitude < INFINITY_BITS && (magnitude >> min(params.prefix_shift, 31u)) == prefix;
}

fn prefix_of(row: u32) -> u32 {
  return select(prefixes[row], 0u, params.prefix_shift >= 32u);
}

fn count(row: u32, magnitude: u32, bin_mask: u32) {
  atomicAdd(&counts[row * BINS + ((magnitude >> params.shift) & bin_mask)], 1u);
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let invocation = (group.y * groups.x + group.x) * 64u + local;
  let segment_row = invocation / params.lanes;
  if (segment_row >= params.segment_count) {
    return;
  }
  let lane = invocation % params.lanes;
  let segment = segments[segment_row];
  let start = segment.x;
  if (segment.y == 0u) {
    return;
  }
  let end = start + segment.y - 1u;
  let first = start >> 2u;
  let last = end >> 2u;
  let before = select(NONE, ALL, COMPONENT < vec4u(start & 3u));
  let behind = select(NONE, ALL, COMPONENT > vec4u(end & 3u));
  var bin_mask = BINS - 1u;
  if (params.prefix_shift < 32u) {
    bin_mask = min(BINS, 1u << min(params.prefix_shift - params.shift, 11u)) - 1u;
  }

  let by_channel = params.channel_count > 0u;
  let segment_slot_row = segment.z - params.slot_base;
  if (!by_channel && segment_slot_row >= params.slot_count) {
    return;
  }
  var prefix = 0u;
  // position of a vec4's first element inside the channel pattern; start may lie up to 3 elements behind it
  var inside = 0u;
  var channel = 0u;
  var step_inside = 0u;
  var step_channel = 0u;
  if (by_channel) {
    let period = params.channel_inner * params.channel_count;
    let position = (segment.w % period + period * 3u + (first + lane) * 4u - start) % period;
    inside = position % params.channel_inner;
    channel = position / params.channel_inner;
    step_inside = (params.lanes * 4u) % params.channel_inner;
    step_channel = ((params.lanes * 4u) / params.channel_inner) % params.channel_count;
  } else {
    prefix = prefix_of(segment_slot_row);
  }

  for (var v = first + lane; v <= last; v += params.lanes) {
    var bits = values[v];
    if (v == first) {
      bits |= before;
    }
    if (v == last) {
      bits |= behind;
    }
    let magnitude = bits & vec4u(0x7fffffffu);
    if (!by_channel) {
      if (is_counted(magnitude.x, prefix)) { count(segment_slot_row, magnitude.x, bin_mask); }
      if (is_counted(magnitude.y, prefix)) { count(segment_slot_row, magnitude.y, bin_mask); }
      if (is_counted(magnitude.z, prefix)) { count(segment_slot_row, magnitude.z, bin_mask); }
      if (is_counted(magnitude.w, prefix)) { count(segment_slot_row, magnitude.w, bin_mask); }
      continue;
    }
    var at = inside;
    var element_channel = channel;
    for (var c = 0u; c < 4u; c++) {
      let row = element_channel - params.slot_base;
      if (row < params.slot_count && is_counted(magnitude[c], prefix_of(row))) {
        count(row, magnitude[c], bin_mask);
      }
      at++;
      if (at == params.channel_inner) {
        at = 0u;
        element_channel = select(element_channel + 1u, 0u, element_channel + 1u == params.channel_count);
      }
    }
    inside += step_inside;
    channel += step_channel;
    if (inside >= params.channel_inner) {
      inside -= params.channel_inner;
      channel++;
    }
    if (channel >= params.channel_count) {
      channel -= params.channel_count;
    }
  }
}
