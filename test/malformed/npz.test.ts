// What hostile and damaged datasets get: an AppError that names the array and what is wrong.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { deflateRawSync } from 'node:zlib'
import { AppError, type ErrorCode } from '../../src/errors.ts'
import { openDataset } from '../../src/validate/dataset.ts'
import { seededRandom } from '../support/seeded-random.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { f4, i8, npyBytes, npzBytes } from '../support/write-npz.ts'

const X = f4([2, 2], [1, 2, 3, 4])
const SMALL = npzBytes({ x: X, labels: i8([2], [0, 1]) })
const SMALL_DEFLATED = npzBytes({ x: X, labels: i8([2], [0, 1]) }, { deflate: true })

/** A .npy with this header text, whatever it says. */
function npy(header: string, data = new Uint8Array(), version = 1): Uint8Array {
  const prefix = Buffer.from('\x93NUMPY\x01\x00\x00\x00', 'latin1')
  prefix[6] = version
  prefix.writeUInt16LE(header.length, 8)
  return Buffer.concat([prefix, Buffer.from(header, 'latin1'), data])
}

const ATTACKS: [name: string, bytes: Uint8Array, code: ErrorCode, says: RegExp][] = [
  ['an empty file', new Uint8Array(), 'dataset_invalid', /it is empty/],
  ['a lone .npy', npyBytes(X), 'dataset_invalid', /single \.npy array; write the \.npz with numpy\.savez/],
  ['text', Buffer.from('x,y\n1,2\n'), 'dataset_invalid', /no zip archive/],
  ['an archive without arrays', npzBytes({}), 'dataset_invalid', /no arrays/],
  ['an entry that is no .npy', npzBytes({ 'readme.txt': Buffer.from('hi') }), 'dataset_invalid', /holds 'readme\.txt'/],
  [
    'a .npy entry of something else',
    npzBytes({ 'x.npy': Buffer.from('PNG image, really') }),
    'dataset_invalid',
    /array 'x': .*x93NUMPY/,
  ],
  [
    'a pickle inside',
    npzBytes({ x: { descr: '|O', shape: [1], data: Buffer.from('\x80\x04.', 'latin1') } }),
    'dtype_unsupported',
    /array 'x': .*Python objects \(a pickle, never loaded\)/,
  ],
  [
    'text elements',
    npzBytes({ x: { descr: '<U4', shape: [1], data: Buffer.alloc(16) } }),
    'dtype_unsupported',
    /'<U4' \(text\)/,
  ],
  [
    'complex numbers',
    npzBytes({ x: { descr: '<c8', shape: [1], data: Buffer.alloc(8) } }),
    'dtype_unsupported',
    /complex/,
  ],
  [
    'structured records',
    npzBytes({ 'x.npy': npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", Buffer.alloc(4)) }),
    'dtype_unsupported',
    /structured/,
  ],
  [
    'Fortran order',
    npzBytes({ x: { ...X, fortranOrder: true } }),
    'dataset_invalid',
    /array 'x' is in Fortran .*ascontiguousarray/,
  ],
  ['a version of the future', npzBytes({ 'x.npy': npy('{}', Buffer.alloc(8), 9) }), 'dataset_invalid', /version 9\.0/],
  [
    'a header without shape',
    npzBytes({ 'x.npy': npy("{'descr': '<f4', 'fortran_order': False, }   ") }),
    'dataset_invalid',
    /exactly 'descr', 'fortran_order' and 'shape'/,
  ],
  [
    'Python code as header',
    npzBytes({ 'x.npy': npy("__import__('os').system('true')   ") }),
    'dataset_invalid',
    /no '\{' where one belongs/,
  ],
  [
    'a dimension of 2^60',
    npzBytes({ 'x.npy': npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,), }") }),
    'dataset_invalid',
    /dimension of 1152921504606846976/,
  ],
  [
    'a product beyond 2^53',
    npzBytes({ 'x.npy': npy(`{'descr': '<f4', 'fortran_order': False, 'shape': (${2 ** 40}, ${2 ** 40}), }`) }),
    'dataset_invalid',
    /beyond 2\^53 bytes/,
  ],
  [
    'a negative dimension',
    npzBytes({ 'x.npy': npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }") }),
    'dataset_invalid',
    /no whole number/,
  ],
  [
    'fewer elements than declared',
    npzBytes({ x: { ...X, data: X.data.subarray(4) } }),
    'dataset_invalid',
    /shape \(2, 2\) of f32 needs 144 bytes with its header, the entry has 140/,
  ],
  [
    'more elements than declared',
    npzBytes({ x: { ...X, data: Buffer.alloc(20) } }),
    'dataset_invalid',
    /the entry has 148/,
  ],
  [
    'a checksum that does not hold',
    npzBytes({ x: X }, { patchEntry: (entry) => entry.writeUInt32LE(7, 16) }),
    'dataset_invalid',
    /CRC|crc|checksum/,
  ],
  [
    'an encrypted entry',
    npzBytes({ x: X }, { deflate: true, patchEntry: (entry) => entry.writeUInt16LE(0x801, 8) }),
    'dataset_invalid',
    /encrypted/,
  ],
  [
    'an unknown compression',
    npzBytes({ x: X }, { patchEntry: (entry) => entry.writeUInt16LE(93, 10) }),
    'dataset_invalid',
    /zip method 93; stored and deflate are read/,
  ],
  [
    'a terabyte declared',
    npzBytes({ x: X }, { deflate: true, patchEntry: (entry) => entry.writeUInt32LE(0xfffffff0, 24) }),
    'dataset_invalid',
    /array 'x'/,
  ],
]

for (const [name, bytes, code, says] of ATTACKS) {
  test(`refuses ${name}`, async (t) => {
    const path = join(tempFolder(t), 'd.npz')
    writeFileSync(path, bytes)
    await assert.rejects(openDataset(path), (error) => {
      assert.ok(error instanceof AppError, String(error))
      assert.equal(error.code, code, error.detail)
      assert.match(error.detail, says)
      return true
    })
  })
}

test('refuses two arrays of one name', async (t) => {
  const path = join(tempFolder(t), 'd.npz')
  const bytes = Buffer.from(npzBytes({ x: X, y: X }))
  for (let at = bytes.indexOf('y.npy'); at >= 0; at = bytes.indexOf('y.npy', at + 1)) bytes.write('x', at)
  writeFileSync(path, bytes)
  await assert.rejects(openDataset(path), /two arrays named 'x'/)
})

test('a zip bomb is refused by what it declares, before it is inflated', async (t) => {
  // 64 entries that all point at the same 1 MB of deflated zeros, each declared as 4 GB.
  const path = join(tempFolder(t), 'd.npz')
  const zeros = deflateRawSync(Buffer.alloc(1_000_000_00))
  const arrays = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`x${i}.npy`, zeros]))
  writeFileSync(path, npzBytes(arrays, { patchEntry: (entry) => entry.writeUInt32LE(0xfffffff0, 24) }))
  const before = performance.now()
  await assert.rejects(openDataset(path), (error) => error instanceof AppError)
  assert.ok(performance.now() - before < 2000)
})

for (const [kind, whole] of [
  ['stored', SMALL],
  ['deflated', SMALL_DEFLATED],
] as const) {
  test(`refuses every truncation of a small ${kind} archive`, async (t) => {
    const path = join(tempFolder(t), 'd.npz')
    for (let length = 0; length < whole.length; length++) {
      writeFileSync(path, whole.subarray(0, length))
      await assert.rejects(
        openDataset(path),
        (error) => error instanceof AppError && error.code === 'dataset_invalid',
        `${length}`,
      )
    }
  })
}

test('survives 1,500 seeded mutations with nothing but AppErrors', async (t) => {
  const path = join(tempFolder(t), 'd.npz')
  const random = seededRandom(7)
  let opened = 0
  for (let round = 0; round < 1500; round++) {
    const bytes = Uint8Array.from(round % 2 ? SMALL : SMALL_DEFLATED)
    for (let hits = 1 + Math.floor(random() * 3); hits > 0; hits--)
      bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256)
    writeFileSync(path, bytes)
    try {
      await (await openDataset(path)).close()
      opened++
    } catch (error) {
      assert.ok(error instanceof AppError && error.code !== 'internal', `round ${round}: ${error}`)
    }
  }
  assert.ok(opened > 0, 'harmless mutations (dates, attributes) still open')
})
