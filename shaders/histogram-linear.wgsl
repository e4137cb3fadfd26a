// Exact counts of finite x over bins of equal width: bin b holds edges[b] <= x < edges[b + 1], the last also its right edge;
// values outside of the edges are not counted.
// values: f32 as bits; segments: [start, length, slot, aux]; edges: bins + 1 ascending f32 as bits; counts: 1 word a bin,
// atomics; params last (inverse_width is an f32).
// An invocation takes vec4s lane, lane + lanes, ... of its segment. The guessed bin is corrected on order keys, so that the
// counts do not depend on how the guess was rounded.

struct Params { segment_count: u32, lanes: u32, bins: u32, inverse_width: f32 }

@group(0) @binding(0) var<storage, read> values: array<vec4u>;
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

fn count(bits: u32) {
  if ((bits & 0x7fffffffu) >= 0x7f800000u) {
    return;
  }
  let key = value_key(bits);
  if (key < value_key(edges[0]) || key > value_key(edges[params.bins])) {
    return;
  }
  let last_bin = params.bins - 1u;
  let guess = (bitcast<f32>(bits) - bitcast<f32>(edges[0])) * params.inverse_width;
  var bin = min(u32(clamp(guess, 0.0, f32(last_bin))), last_bin);
  while (bin > 0u && key < value_key(edges[bin])) {
    bin--;
  }
  while (bin < last_bin && key >= value_key(edges[bin + 1u])) {
    bin++;
  }
  atomicAdd(&counts[bin], 1u);
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
  let start = segment.x;
  if (segment.y == 0u) {
    return;
  }
  let end = start + segment.y - 1u;
  let first = start >> 2u;
  let last = end >> 2u;
  let before = select(NONE, ALL, COMPONENT < vec4u(start & 3u));
  let behind = select(NONE, ALL, COMPONENT > vec4u(end & 3u));
  for (var v = first + invocation % params.lanes; v <= last; v += params.lanes) {
    var bits = values[v];
    if (v == first) {
      bits |= before;
    }
    if (v == last) {
      bits |= behind;
    }
    for (var c = 0u; c < 4u; c++) {
      count(bits[c]);
    }
  }
}
