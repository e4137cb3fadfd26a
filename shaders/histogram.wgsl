// Exact counts of |x| bit patterns: bin = (|x| bits >> shift) & (bins - 1), for finite values whose bits above prefix_shift equal
// the prefix of their slot (prefix_shift 32: all finite values). 2048 counters a slot.
// values: f32 as bits; segments: [start, length, slot, aux]; prefixes: 1 word a slot; counts: 2048 words a slot, atomics;
// params last. With channel_count > 0 the slot is the element's channel ((aux + i) / channel_inner) % channel_count.
// An invocation takes vec4s lane, lane + lanes, ... of its segment; elements outside of it are read as NaN, which is not counted.
// With 64 lanes a workgroup is one segment and counts in workgroup memory first: weights crowd into few bins, and cores that add
// to the same words of storage wait for each other.

struct Params {
  segment_count: u32, lanes: u32, shift: u32, prefix_shift: u32,
  channel_inner: u32, channel_count: u32, slot_base: u32, slot_count: u32,
}

@group(0) @binding(1) var<storage, read> segments: array<vec4u>;
@group(0) @binding(2) var<storage, read> prefixes: array<u32>;
@group(0) @binding(3) var<storage, read_write> counts: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> params: Params;

const INFINITY_BITS = 0x7f800000u;
const BINS = 2048u;
const COMPONENT = vec4u(0u, 1u, 2u, 3u);
const NONE = vec4u(0u);
const ALL = vec4u(0xffffffffu);

var<workgroup> shared_counts: array<atomic<u32>, BINS>;

// |x| has no sign bit, so at shift 31 every value has prefix 0
fn is_counted(magnitude: u32, prefix: u32) -> bool {
  return magnitude < INFINITY_BITS && (magnitude >> min(params.prefix_shift, 31u)) == prefix;
}

fn prefix_of(row: u32) -> u32 {
  return select(prefixes[row], 0u, params.prefix_shift >= 32u);
}

fn bin_of(magnitude: u32) -> u32 {
  let bits = select(min(params.prefix_shift - params.shift, 11u), 11u, params.prefix_shift >= 32u);
  return (magnitude >> params.shift) & ((1u << bits) - 1u);
}

fn count(row: u32, magnitude: u32, prefix: u32, in_shared: bool) {
  if (!is_counted(magnitude, prefix)) {
    return;
  }
  if (in_shared) {
    atomicAdd(&shared_counts[bin_of(magnitude)], 1u);
  } else {
    atomicAdd(&counts[row * BINS + bin_of(magnitude)], 1u);
  }
}

// |x| of vec4 v of the segment [start, start + length), NaN where it is not its own
fn magnitudes(v: u32, start: u32, length: u32) -> vec4u {
  var bits = values_at(v);
  if (v == start >> 2u) {
    bits |= select(NONE, ALL, COMPONENT < vec4u(start & 3u));
  }
  let end = start + length - 1u;
  if (v == end >> 2u) {
    bits |= select(NONE, ALL, COMPONENT > vec4u(end & 3u));
  }
  return bits & vec4u(0x7fffffffu);
}

fn count_by_slot(segment: vec4u, lane: u32, in_shared: bool) {
  let row = segment.z - params.slot_base;
  if (segment.y == 0u || row >= params.slot_count) {
    return;
  }
  let prefix = prefix_of(row);
  let last = (segment.x + segment.y - 1u) >> 2u;
  for (var v = (segment.x >> 2u) + lane; v <= last; v += params.lanes) {
    let magnitude = magnitudes(v, segment.x, segment.y);
    count(row, magnitude.x, prefix, in_shared);
    count(row, magnitude.y, prefix, in_shared);
    count(row, magnitude.z, prefix, in_shared);
    count(row, magnitude.w, prefix, in_shared);
  }
}

fn count_by_channel(segment: vec4u, lane: u32) {
  if (segment.y == 0u) {
    return;
  }
  let first = (segment.x >> 2u) + lane;
  let last = (segment.x + segment.y - 1u) >> 2u;
  // position of the vec4's first element in the channel pattern, and what `lanes` vec4s add to it; 3 periods more keep the
  // difference positive where the segment starts inside the vec4
  let period = params.channel_inner * params.channel_count;
  let position = (segment.w % period + period * 3u + first * 4u - segment.x) % period;
  var inside = position % params.channel_inner;
  var channel = position / params.channel_inner;
  let step_inside = (params.lanes * 4u) % params.channel_inner;
  let step_channel = ((params.lanes * 4u) / params.channel_inner) % params.channel_count;
  for (var v = first; v <= last; v += params.lanes) {
    let magnitude = magnitudes(v, segment.x, segment.y);
    var at = inside;
    var element_channel = channel;
    for (var c = 0u; c < 4u; c++) {
      let row = element_channel - params.slot_base;
      if (row < params.slot_count) {
        count(row, magnitude[c], prefix_of(row), false);
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

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let invocation = (group.y * groups.x + group.x) * 64u + local;
  let segment_row = invocation / params.lanes;
  let lane = invocation % params.lanes;
  let there = segment_row < params.segment_count;
  if (params.channel_count > 0u) {
    if (there) {
      count_by_channel(segments[segment_row], lane);
    }
    return;
  }
  if (params.lanes != 64u) {
    if (there) {
      count_by_slot(segments[segment_row], lane, false);
    }
    return;
  }
  if (there) {
    count_by_slot(segments[segment_row], lane, true);
  }
  workgroupBarrier();
  if (!there) {
    return;
  }
  let row = segments[segment_row].z - params.slot_base;
  for (var bin = local; bin < BINS; bin += 64u) {
    let found = atomicLoad(&shared_counts[bin]);
    if (found != 0u) {
      atomicAdd(&counts[row * BINS + bin], found);
    }
  }
}
