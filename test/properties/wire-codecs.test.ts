// Wire codecs of our own over generated input: what is written is read back the same, and JSON is read as JSON.parse reads it.

import assert from 'node:assert/strict'
import { closeSync, openSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { dtypeOfName, SAFETENSORS_DTYPES } from '../../src/formats/safetensors/dtypes.ts'
import { encodeHeader, readHeader } from '../../src/formats/safetensors/header.ts'
import { type JsonValue, parseJson } from '../../src/formats/wire/json-header.ts'
import { readNpyHeader } from '../../src/formats/wire/npy.ts'
import { byteLength, DTYPES, elementCount } from '../../src/tensor/dtype.ts'
import { tempFolder } from '../support/temp-folder.ts'
import { npyBytes } from '../support/write-npz.ts'

const LIMITS = { file: 'x', baseOffset: 0, maxDepth: 64, maxMembers: 10_000 }

/** Maps become objects again, so that the two parsers can be compared. */
function plain(value: JsonValue): unknown {
  if (Array.isArray(value)) return value.map(plain)
  if (value instanceof Map) {
    const object: Record<string, unknown> = Object.create(null)
    for (const [key, item] of value) object[key] = plain(item)
    return object
  }
  return typeof value === 'bigint' ? Number(value) : value
}

test('parseJson agrees with JSON.parse on every JSON text', () => {
  fc.assert(
    fc.property(fc.json({ maxDepth: 6 }), fc.constantFrom(undefined, 1, '\t'), (json, indent) => {
      const text = JSON.stringify(JSON.parse(json), null, indent)
      const expected = parseJson(Buffer.from(JSON.stringify(JSON.parse(text))), LIMITS)
      assert.deepEqual(parseJson(Buffer.from(text), LIMITS), expected)
      assert.deepEqual(JSON.parse(JSON.stringify(plain(expected))), JSON.parse(text))
    }),
    { numRuns: 500 },
  )
})

const names = fc.uniqueArray(
  fc.string({ unit: 'binary', maxLength: 20 }).filter((name) => name !== '__metadata__'),
  {
    maxLength: 8,
  },
)
const dtypes = fc.constantFrom(...SAFETENSORS_DTYPES.map((name) => dtypeOfName(name)!))
// The last dimension of 8 keeps sub-byte dtypes on whole bytes.
const shapes = fc.array(fc.nat(3), { maxLength: 3 }).map((dims) => [...dims, 8])

test('a safetensors header is read back as it was written', (t) => {
  const path = join(tempFolder(t), 'p.safetensors')
  const metadata = fc.option(
    fc.dictionary(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), { maxKeys: 4 }),
  )
  fc.assert(
    fc.property(names, fc.infiniteStream(fc.tuple(dtypes, shapes)), metadata, (list, stream, extra) => {
      let end = 0
      const members = list.map((name) => {
        const [dtype, shape] = stream.next().value!
        const begin = end
        end += byteLength(dtype, elementCount(shape))
        return { name, dtype, shape, begin, end }
      })
      const bytes = encodeHeader(members, extra)
      assert.equal(bytes.length % 8, 0)
      writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(end)]))
      const fd = openSync(path, 'r')
      const header = readHeader(fd, 'p', bytes.length + end)
      closeSync(fd)
      assert.equal(header.dataStart, bytes.length)
      assert.deepEqual({ ...header.metadata }, { ...extra })
      assert.deepEqual(
        header.entries,
        members.map(({ name, dtype, shape, begin, end: last }) => {
          return { name, dtype, shape, offsetBytes: bytes.length + begin, lengthBytes: last - begin }
        }),
      )
    }),
    { numRuns: 300 },
  )
})

test('a .npy header is read back as it was written', () => {
  const descrs = fc.constantFrom(
    '<f2',
    '<f4',
    '>f4',
    '<f8',
    '|i1',
    '<i2',
    '>i4',
    '<i8',
    '|u1',
    '<u2',
    '<u4',
    '>u8',
    '|b1',
  )
  const shape = fc.array(fc.nat(255), { maxLength: 6 })
  fc.assert(
    fc.property(
      descrs,
      shape,
      fc.boolean(),
      fc.constantFrom(1 as const, 2 as const, 3 as const),
      (descr, dims, fortranOrder, version) => {
        const header = readNpyHeader(npyBytes({ descr, shape: dims, data: new Uint8Array(), fortranOrder, version }))
        assert.deepEqual(header.shape, dims)
        assert.equal(header.littleEndian, descr[0] !== '>')
        assert.equal(header.fortranOrder, fortranOrder && dims.length > 1)
        assert.equal(DTYPES[header.dtype].bits, Number(descr[2]) * 8)
        assert.equal(header.dataOffset % 64, 0)
      },
    ),
  )
})
