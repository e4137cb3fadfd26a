// How many connections and requests this process can hold: the limits asked for, lowered to what the operating system's limit of
// open files leaves. Entry: fitToOpenFiles.

import { readFileSync } from 'node:fs'
import type { Limits } from '../config.ts'

/** Catalogue, children with their pipes, logs, and files that jobs and inspections have open. */
const RESERVED_FILES = 128
/** A server that small is for trying things out, and still answers its probes. */
const LEAST = 16
/** Of the connections, so that there is always one without a request that can make way for a new one. */
const MOST_IN_WORK_SHARE = 0.75

/** Soft limit of open files; null where it cannot be told. Node raises it to the hard limit when it starts. */
export function openFileLimit(path = '/proc/self/limits'): number | null {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync(path, 'latin1'))?.[1]
    return soft === undefined ? null : Number(soft)
  } catch {
    return null
  }
}

/** Every connection is an open file, and every request in work may have one more (an upload, a download). */
export function fitToOpenFiles(limits: Limits, openFiles: number | null): Limits {
  const usable = openFiles === null ? Number.POSITIVE_INFINITY : openFiles - RESERVED_FILES
  let { connections, parallelRequests } = limits
  parallelRequests = Math.min(parallelRequests, Math.floor(connections * MOST_IN_WORK_SHARE))
  if (connections + parallelRequests > usable) {
    parallelRequests = Math.max(LEAST, Math.min(parallelRequests, Math.floor(usable / 3)))
    connections = Math.max(LEAST, Math.min(connections, usable - parallelRequests))
  }
  const requestsPerKey = Math.min(limits.requestsPerKey, parallelRequests)
  return { ...limits, connections, parallelRequests, requestsPerKey }
}
