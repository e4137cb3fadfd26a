// Statistics of every column of a row-major [rows, cols] matrix of f32, slot slot_base + column, merged over chunks of rows.
// values: f32 as bits; stats: 8 words a slot as in statistics.wgsl, merged by atomics; params last.
// An invocation takes two vec4s of neighbouring columns and rows_per_item rows: on a software adapter twice the columns means half the
// rows to step over for the same bytes. With cols a multiple of 4 it loads vec4s, otherwise single elements; columns beyond the
// last are read as NaN and reported nowhere.

struct Params { rows: u32, cols: u32, slot_base: u32, rows_per_item: u32 }

@group(0) @binding(1) var<storage, read_write> stats: array<atomic<u32>>;
@group(0) @binding(2) var<uniform> params: Params;

fn element(index: u32, there: bool) -> u32 {
  if (!there) {
    return 0xffffffffu;
  }
  return values_at(index >> 2u)[index & 3u];
}

// `zeros` and `seen` are of four columns from `col` on, and right if these are `aligned` and have finite values only
fn report(col: u32, first_row: u32, row_end: u32, aligned: bool, seen: Extremes, zeros: vec4u) {
  if (col >= params.cols) {
    return;
  }
  let there = min(4u, params.cols - col);
  var result = finite_extremes(seen);
  var zero_count = zeros;
  var non_finite = NONE;
  if (!aligned || any(result.abs_max >= INFINITY_BITS)) {
    result = NO_FINITE_EXTREMES;
    zero_count = NONE;
    for (var row = first_row; row < row_end; row++) {
      let index = row * params.cols + col;
      let bits = vec4u(
        element(index, true),
        element(index + 1u, there > 1u),
        element(index + 2u, there > 2u),
        element(index + 3u, there > 3u),
      );
      let finite = (bits & ABS_MASK) < INFINITY_BITS;
      result = with_value(result, bits, finite);
      zero_count += are_zero(bits);
      non_finite += select(vec4u(1u), NONE, finite);
    }
  }
  for (var c = 0u; c < there; c++) {
    let base = (params.slot_base + col + c) * 8u;
    raise(base, result.abs_max[c]);
    raise(base + 1u, result.key_max[c]);
    raise(base + 2u, ~result.key_min[c]);
    count(base + 3u, zero_count[c]);
    count(base + 4u, non_finite[c]);
  }
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) local: u32,
) {
  let invocation = (group.y * groups.x + group.x) * 64u + local;
  let items = (params.cols + 7u) / 8u;
  if (items == 0u) {
    return;
  }
  let first_row = (invocation / items) * params.rows_per_item;
  if (first_row >= params.rows) {
    return;
  }
  let col = (invocation % items) * 8u;
  let row_end = first_row + min(params.rows_per_item, params.rows - first_row);
  let aligned = params.cols % 4u == 0u;

  var left = NO_EXTREMES;
  var right = NO_EXTREMES;
  var left_zeros = NONE;
  var right_zeros = NONE;
  if (aligned) {
    let quads = params.cols / 4u;
    // the last item may have one vec4 only: it is then read twice, and reported once
    let next = select(0u, 1u, col + 4u < params.cols);
    let end = row_end * quads;
    for (var v = first_row * quads + col / 4u; v < end; v += quads) {
      let left_bits = values_at(v);
      let right_bits = values_at(v + next);
      left = with_bits(left, left_bits);
      right = with_bits(right, right_bits);
      left_zeros += are_zero(left_bits);
      right_zeros += are_zero(right_bits);
    }
  }
  report(col, first_row, row_end, aligned, left, left_zeros);
  report(col + 4u, first_row, row_end, aligned, right, right_zeros);
}
