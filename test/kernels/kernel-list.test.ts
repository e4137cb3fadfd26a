// Every shader has its kernel and every kernel its shader, with the same bindings, params and workgroup size.

import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { KERNELS } from '../../src/kernels/index.ts'
import { testOnGpu } from '../support/with-device.ts'

const folder = new URL('../../shaders/', import.meta.url)
/** What the device appends to kernels that read a chunk, where chunks are buffers. */
const valuesInBuffer = new URL('lib/values-buffer.wgsl', folder)
const shaderNames = readdirSync(folder)
  .filter((file) => file.endsWith('.wgsl'))
  .map((file) => file.slice(0, -'.wgsl'.length))

test('kernel names are unique and each has a shader, and the reverse', () => {
  const names = KERNELS.map((kernel) => kernel.name)
  assert.equal(new Set(names).size, names.length)
  assert.deepEqual(names.toSorted(), shaderNames.toSorted())
})

test('each file of shaders/lib is used, and each that is named is there', () => {
  const files = readdirSync(new URL('lib/', folder)).map((file) => file.replace(/\.wgsl$/, ''))
  const named = new Set(['values-buffer', 'values-texture', ...KERNELS.flatMap(({ library }) => library ?? [])])
  assert.deepEqual(files.toSorted(), [...named].toSorted())
})

for (const kernel of KERNELS) {
  test(`${kernel.name}: the shader declares the kernel's bindings in order, params last`, () => {
    const own = readFileSync(new URL(`${kernel.name}.wgsl`, folder), 'utf8')
    const source = kernel.bindings[0]?.chunk ? `${readFileSync(valuesInBuffer, 'utf8')}${own}` : own
    const declared = [...source.matchAll(/@binding\((\d+)\) var<(storage, (read|read_write)|uniform)> (\w+)/g)].map(
      (match) => ({ binding: Number(match[1]), access: match[3] ?? 'uniform', name: match[4] }),
    )
    const expected = [...kernel.bindings, { name: 'params', access: 'uniform' }].map((binding, index) => ({
      binding: index,
      access: binding.access,
      name: binding.name,
    }))
    assert.deepEqual(declared, expected)
    const params = /struct Params \{([^}]*)\}/.exec(source)?.[1] ?? ''
    assert.equal(params.match(/\w+: (u32|f32)/g)?.length, kernel.paramWords)
    assert.equal(kernel.paramWords % 4, 0)
    assert.match(source, new RegExp(`@workgroup_size\\(${kernel.workgroupSize}\\)`))
  })
}

testOnGpu('all kernels build and warm at once', async (device) => {
  const kernels = KERNELS.filter(({ subgroups }) => !subgroups || device.tuning.subgroups)
  await device.prepare(kernels, 'chunk')
  await device.prepare(kernels, 'buffer')
  await device.prepare(kernels, 'chunk')
})
