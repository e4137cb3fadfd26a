// The runs of an output file: collected tensor by tensor (RunList), one copy of a whole input file, or given bytes.

import type { OutputFile, OutputRun, TensorData } from '../../tensor/model.ts'
import type { OutTensor } from './out-tensors.ts'

/** Collects the runs of one file; neighbours that can be one run become one. */
export class RunList {
  readonly #runs: OutputRun[] = []
  #literals: Uint8Array[]
  #position: number

  constructor(header: Uint8Array) {
    this.#literals = [header]
    this.#position = header.length
  }

  add({ lengthBytes, source }: OutTensor): void {
    if (lengthBytes === 0) return
    const offsetBytes = this.#position
    this.#position += lengthBytes
    if (source.kind === 'bytes') {
      this.#literals.push(source.bytes)
      return
    }
    this.#flush(offsetBytes)
    if (source.kind === 'part')
      this.#runs.push({ kind: 'part', offsetBytes, lengthBytes, tensor: source.tensor, part: source.part })
    else this.#copy(offsetBytes, source.from)
  }

  finish(name: string): OutputFile {
    this.#flush(this.#position)
    return { name, sizeBytes: this.#position, runs: this.#runs }
  }

  #copy(offsetBytes: number, from: TensorData): void {
    const last = this.#runs.at(-1)
    if (
      from.kind === 'file' &&
      last?.kind === 'copy' &&
      last.from.kind === 'file' &&
      last.from.file === from.file &&
      last.from.offsetBytes + last.from.lengthBytes === from.offsetBytes
    )
      last.from = { ...last.from, lengthBytes: last.from.lengthBytes + from.lengthBytes }
    else this.#runs.push({ kind: 'copy', offsetBytes, from })
  }

  #flush(position: number): void {
    if (this.#literals.length === 0) return
    const bytes = Buffer.concat(this.#literals)
    this.#runs.push({ kind: 'literal', offsetBytes: position - bytes.length, bytes })
    this.#literals = []
  }
}

export function copyFile(file: number, name: string, sizeBytes: number): OutputFile {
  const from: TensorData = { kind: 'file', file, offsetBytes: 0, lengthBytes: sizeBytes }
  return { name, sizeBytes, runs: sizeBytes === 0 ? [] : [{ kind: 'copy', offsetBytes: 0, from }] }
}

export function literalFile(name: string, bytes: Uint8Array): OutputFile {
  return { name, sizeBytes: bytes.length, runs: [{ kind: 'literal', offsetBytes: 0, bytes }] }
}
