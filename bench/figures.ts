// What a benchmark run collects: rows of the table, and the small helpers that every row uses.

import { existsSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DeviceInfo } from '../src/compute/compute-device.ts'
import type { Versions } from '../src/validate/report.ts'

/** bench/results/bench-ADAPTER.json. */
export interface BenchDocument {
  measuredAt: string
  machine: { cpu: string; cores: number; memoryBytes: number; system: string }
  device: DeviceInfo
  versions: Versions & { python: Record<string, string> }
  settings: { sizes: number[]; runs: number; groups: string[]; uploadBytes: number }
  figures: (Figure & { met: boolean | null })[]
}

/** Where JSON goes: bench/results of a checkout, which keeps it; elsewhere the current folder, as the program's may be read-only. */
export function resultsFolder(): string {
  if (!existsSync(join(import.meta.dirname, '..', 'package-lock.json'))) return process.cwd()
  const folder = join(import.meta.dirname, 'results')
  mkdirSync(folder, { recursive: true })
  return folder
}

/** One line of the table. `value` is what is judged against `goal`. */
export interface Figure {
  name: string
  /** What was measured, in words: '1.41 s against 0.99 s'. */
  measured: string
  value: number
  unit: 'ratio' | 'MiB' | 'ms' | 's'
  goal: { atLeast: number } | { atMost: number } | null
  /** Every single run, for the JSON. */
  runs: Record<string, number[]>
}

export interface BenchContext {
  /** Folder for models and outputs; removed at the end. */
  folder: string
  device: string
  runs: number
  /** Versions of the Python packages that rows were compared with, filled by those rows. */
  pythonVersions: Record<string, string>
  log(text: string): void
  add(figure: Figure): void
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

export function met({ value, goal }: Figure): boolean | null {
  if (goal === null) return null
  return 'atLeast' in goal ? value >= goal.atLeast : value <= goal.atMost
}

export function showValue({ value, unit }: Figure): string {
  if (unit === 'ratio') return value.toFixed(2)
  return unit === 'MiB' ? `${value} MiB` : `${value.toFixed(value < 10 ? 2 : 0)} ${unit}`
}

export function showGoal({ goal, unit }: Figure): string {
  if (goal === null) return ''
  return 'atLeast' in goal ? `>= ${goal.atLeast}` : `<= ${goal.atMost}${unit === 'ratio' ? '' : ` ${unit}`}`
}

export function showMet(figure: Figure): string {
  const answer = met(figure)
  return answer === null ? '' : answer ? 'yes' : 'NO'
}

/** A field of /proc/PID/status in bytes; null off Linux or when the process has gone. VmHWM: peak resident; VmRSS: now. */
export function processBytes(pid: number, field: 'VmHWM' | 'VmRSS'): number | null {
  try {
    const match = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
    return match ? Number(match[1]) * 1024 : null
  } catch {
    return null
  }
}

export function megabytesPerSecond(bytes: number, seconds: number): string {
  return `${Math.round(bytes / seconds / 1e6)} MB/s`
}

export function mebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20)
}
