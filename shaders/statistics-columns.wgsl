// Statistics of every column of a row-major [rows, cols] matrix of f32, slot slot_base + column, merged over chunks of rows.
// values: f32 as bits; stats: 8 words a slot as in statistics.wgsl, merged by atomics; params last.
// An invocation takes 4 neighbouring columns and rows_per_item rows. With cols a multiple of 4 it loads vec4s, otherwise single
// elements; columns beyond the last are read as NaN and reported nowhere.

struct Params { rows: u32, cols: u32, slot_base: u32, rows_per_item: u32 }

@group(0) @binding(1) var<storage, read_write> stats: array<atomic<u32>>;
@group(0) @binding(2) var<uniform> params: Params;

const ABS_MASK = vec4u(0x7fffffffu);
const INFINITY_BITS = vec4u(0x7f800000u);
const NONE = vec4u(0u);
const ALL = vec4u(0xffffffffu);

fn element(index: u32, there: bool) -> u32 {
  if (!there) {
    return 0xffffffffu;
  }
  return values_at(index >> 2u)[index & 3u];
}

fn raise(index: u32, value: u32) {
  if (value > atomicLoad(&stats[index])) {
    atomicMax(&stats[index], value);
  }
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let invocation = (group.y * groups.x + group.x) * 64u + local;
  let quads = (params.cols + 3u) / 4u;
  if (quads == 0u) {
    return;
  }
  let first_row = (invocation / quads) * params.rows_per_item;
  if (first_row >= params.rows) {
    return;
  }
  let col = (invocation % quads) * 4u;
  let row_end = first_row + min(params.rows_per_item, params.rows - first_row);
  let aligned = params.cols % 4u == 0u;

  var abs_max = NONE;
  var key_max = NONE;
  var key_min = ALL;
  var zeros = NONE;
  var non_finite = NONE;
  for (var row = first_row; row < row_end; row++) {
    let index = row * params.cols + col;
    var bits = NONE;
    if (aligned) {
      bits = values_at(index >> 2u);
    } else {
      bits = vec4u(
        element(index, true),
        element(index + 1u, col + 1u < params.cols),
        element(index + 2u, col + 2u < params.cols),
        element(index + 3u, col + 3u < params.cols),
      );
    }
    let magnitude = bits & ABS_MASK;
    let finite = magnitude < INFINITY_BITS;
    let key = bits ^ (bitcast<vec4u>(bitcast<vec4i>(bits) >> vec4u(31u)) | vec4u(0x80000000u));
    abs_max = max(abs_max, select(NONE, magnitude, finite));
    key_max = max(key_max, select(NONE, key, finite));
    key_min = min(key_min, select(ALL, key, finite));
    zeros += vec4u(magnitude == NONE);
    non_finite += select(vec4u(1u), NONE, finite);
  }

  for (var c = 0u; c < 4u && col + c < params.cols; c++) {
    let base = (params.slot_base + col + c) * 8u;
    raise(base, abs_max[c]);
    raise(base + 1u, key_max[c]);
    raise(base + 2u, ~key_min[c]);
    if (zeros[c] != 0u) {
      atomicAdd(&stats[base + 3u], zeros[c]);
    }
    if (non_finite[c] != 0u) {
      atomicAdd(&stats[base + 4u], non_finite[c]);
    }
  }
}
