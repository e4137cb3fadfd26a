// Reads the parts of compressed tensors back from the artifact's files, as the measuring pass needs them.
// Entry: openArtifactParts. The caller closes it.

import { type FileHandle, open } from 'node:fs/promises'
import { join } from 'node:path'
import { type FileLayout, MATMUL_NBITS_BLOCKS, type PartName } from '../tensor/model.ts'
import { storeError } from './output-files.ts'
import { scaledForm } from './scaled-parameters.ts'
import { blocksPerRow, type TensorWork } from './tensor-work.ts'
import { unpackZeroPointColumns, unpackZeroPointRows } from './write-parts.ts'

export interface ArtifactParts {
  /** Fills `into` from byte `offsetBytes` of a part on. */
  read(work: TensorWork, part: PartName, offsetBytes: number, into: Uint8Array): Promise<void>
  /** Scale and zero point per channel of a scaled form; read once, until `forget`. */
  scales(work: TensorWork): Promise<{ scale: Float32Array; zeroPoint: Uint8Array }>
  /** One code a block of a block-packed form, in block order; read once, until `forget`. */
  blockZeroPoints(work: TensorWork): Promise<Uint8Array>
  forget(work: TensorWork): void
  close(): Promise<void>
}

export async function openArtifactParts(directory: string, layout: FileLayout): Promise<ArtifactParts> {
  const files: FileHandle[] = []
  for (const { name } of layout.files) files.push(await open(join(directory, name)))
  const scales = new Map<TensorWork, Promise<{ scale: Float32Array; zeroPoint: Uint8Array }>>()
  const zeroPoints = new Map<TensorWork, Promise<Uint8Array>>()

  async function read(work: TensorWork, part: PartName, offsetBytes: number, into: Uint8Array): Promise<void> {
    const place = work.places.get(part)?.[0]
    const file = place === undefined ? undefined : files[place.file]
    if (place === undefined || file === undefined) throw new RangeError(`"${work.name}" has no part ${part}`)
    try {
      for (let done = 0; done < into.length; ) {
        const at = place.offsetBytes + offsetBytes + done
        const { bytesRead } = await file.read(into, done, into.length - done, at)
        if (bytesRead === 0) throw new Error(`the artifact ends at byte ${at}`)
        done += bytesRead
      }
    } catch (error) {
      throw storeError(error, 'read the artifact back')
    }
  }

  async function readScales(work: TensorWork) {
    const form = scaledForm(work.plan.encode)
    const channels = work.geometry?.channels ?? 1
    const scale = new Float32Array(channels)
    await read(work, 'scale', 0, new Uint8Array(scale.buffer))
    const zeroPoint = new Uint8Array(channels).fill(form.symmetricZeroPoint)
    if (work.places.has('zero_point')) await read(work, 'zero_point', 0, zeroPoint)
    return { scale, zeroPoint }
  }

  async function readZeroPoints(work: TensorWork): Promise<Uint8Array> {
    const { block } = work
    const place = work.places.get('zero_point')?.[0]
    if (block === null) throw new TypeError(`"${work.name}" is not block-packed`)
    const { n } = block.matrix
    const perRow = blocksPerRow(block)
    if (place === undefined) return new Uint8Array(n * perRow).fill(2 ** (block.bits - 1))
    const packed = new Uint8Array(place.lengthBytes)
    await read(work, 'zero_point', 0, packed)
    return (block.blocks ?? MATMUL_NBITS_BLOCKS).zeroPoints === 'row-bytes'
      ? unpackZeroPointRows(packed, n, perRow, block.bits)
      : unpackZeroPointColumns(packed, n, perRow, block.bits)
  }

  return {
    read,
    scales(work) {
      const known = scales.get(work) ?? readScales(work)
      scales.set(work, known)
      return known
    },
    blockZeroPoints(work) {
      const known = zeroPoints.get(work) ?? readZeroPoints(work)
      zeroPoints.set(work, known)
      return known
    },
    forget(work) {
      scales.delete(work)
      zeroPoints.delete(work)
    },
    async close() {
      await Promise.all(files.map((file) => file.close()))
    },
  }
}
