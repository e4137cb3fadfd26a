// The weights that a kernel reads, in a texture of 512 texels a row, 4 elements a texel: values-buffer.wgsl for software
// adapters, whose loads from storage buffers test and branch for every word of every lane (src/compute/chunk-texture.ts).
// values_first.x: the texel where the bound range begins.

@group(1) @binding(0) var values: texture_storage_2d<rgba32uint, read>;
@group(1) @binding(1) var<uniform> values_first: vec4u;

fn values_at(index: u32) -> vec4u {
  let texel = values_first.x + index;
  return textureLoad(values, vec2u(texel & 511u, texel >> 9u));
}
