// Exact counts of finite x over bins of equal width: bin b holds edges[b] <= x < edges[b + 1], the last also its right edge;
// values outside of the edges are not counted.
// values: f32 as bits; segments: [start, length, slot, aux]; edges: bins + 1 ascending f32 as bits; counts: 1 word a bin,
// atomics; params last (inverse_width is an f32).
// An invocation takes vec4s lane, lane + lanes, ... of its segment. The guessed bin is corrected on order keys, so that the
// counts do not depend on how the guess was rounded. Up to 2048 bins are counted in workgroup memory first: cores that add to the
// same words of storage wait for each other.

struct Params { segment_count: u32, lanes: u32, bins: u32, inverse_width: f32 }

@group(0) @binding(1) var<storage, read> segments: array<vec4u>;
@group(0) @binding(2) var<storage, read> edges: array<u32>;
@group(0) @binding(3) var<storage, read_write> counts: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> params: Params;

const COMPONENT = vec4u(0u, 1u, 2u, 3u);
const NONE = vec4u(0u);
const ALL = vec4u(0xffffffffu);

// orders as the float does; -0 is taken as +0
fn value_key(bits: u32) -> u32 {
  let canonical = select(bits, 0u, bits == 0x80000000u);
  return select(canonical | 0x80000000u, ~canonical, canonical >= 0x80000000u);
}

const SHARED_BINS = 2048u;
var<workgroup> shared_counts: array<atomic<u32>, SHARED_BINS>;

struct Range { first_key: u32, last_key: u32, first: f32 }

fn count(bits: u32, range: Range, in_shared: bool) {
  if ((bits & 0x7fffffffu) >= 0x7f800000u) {
    return;
  }
  let key = value_key(bits);
  if (key < range.first_key || key > range.last_key) {
    return;
  }
  let last_bin = params.bins - 1u;
  let guess = (bitcast<f32>(bits) - range.first) * params.inverse_width;
  var bin = min(u32(clamp(guess, 0.0, f32(last_bin))), last_bin);
  while (bin > 0u && key < value_key(edges[bin])) {
    bin--;
  }
  while (bin < last_bin && key >= value_key(edges[bin + 1u])) {
    bin++;
  }
  if (in_shared) {
    atomicAdd(&shared_counts[bin], 1u);
  } else {
    atomicAdd(&counts[bin], 1u);
  }
}

fn count_segment(segment: vec4u, lane: u32, in_shared: bool) {
  if (segment.y == 0u) {
    return;
  }
  let range = Range(value_key(edges[0]), value_key(edges[params.bins]), bitcast<f32>(edges[0]));
  let end = segment.x + segment.y - 1u;
  let first = segment.x >> 2u;
  let last = end >> 2u;
  let before = select(NONE, ALL, COMPONENT < vec4u(segment.x & 3u));
  let behind = select(NONE, ALL, COMPONENT > vec4u(end & 3u));
  for (var v = first + lane; v <= last; v += params.lanes) {
    var bits = values_at(v);
    if (v == first) {
      bits |= before;
    }
    if (v == last) {
      bits |= behind;
    }
    for (var c = 0u; c < 4u; c++) {
      count(bits[c], range, in_shared);
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
  let row = invocation / params.lanes;
  let lane = invocation % params.lanes;
  if (params.bins > SHARED_BINS) {
    if (row < params.segment_count) {
      count_segment(segments[row], lane, false);
    }
    return;
  }
  if (row < params.segment_count) {
    count_segment(segments[row], lane, true);
  }
  workgroupBarrier();
  for (var bin = local; bin < params.bins; bin += 64u) {
    let found = atomicLoad(&shared_counts[bin]);
    if (found != 0u) {
      atomicAdd(&counts[bin], found);
    }
  }
}
