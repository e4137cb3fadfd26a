// Clients that are too slow, or gone without a word, in the middle of a request: `slowBodyGuard` watches what they send,
// `slowReaderGuard` what they take. Header lines that come too slowly and idle connections are Node's own time-outs (server.ts).

import type { Socket } from 'node:net'
import type { RequestHandler, Response } from 'express'
import type { Limits } from '../config.ts'

/** Two slow windows in a row end a body: long enough together for a stalled disk or a Wi-Fi handover. */
const BODY_WINDOW_MS = 15_000
/** Answers move in pieces of up to 64 KiB (send-bytes.ts), so at the least rate one comes each minute. */
const READ_WINDOW_MS = 60_000

/**
 * Gives up a body that arrives slower than uploadBytesPerSecond over two windows: `onSlow` answers, then the connection ends.
 * Node's own requestTimeout would also end a long upload that makes steady progress.
 */
export function slowBodyGuard(limits: Limits, onSlow: (response: Response) => void, windowMs = BODY_WINDOW_MS) {
  const leastBytes = (limits.uploadBytesPerSecond * windowMs) / 1000
  const guard: RequestHandler = (request, response, next) => {
    if (leastBytes === 0 || request.complete) return next()
    const { socket } = request
    let seenBytes = socket.bytesRead
    let slowWindows = 0
    const timer = setInterval(() => {
      const newBytes = socket.bytesRead - seenBytes
      seenBytes += newBytes
      if (request.complete) return stop()
      // A paused socket is waiting for us, not we for the client.
      slowWindows = newBytes >= leastBytes || socket.isPaused() ? 0 : slowWindows + 1
      if (slowWindows < 2) return
      stop()
      onSlow(response)
      response.once('finish', () => socket.destroySoon())
    }, windowMs)
    const stop = () => clearInterval(timer)
    timer.unref()
    request.once('end', stop)
    response.once('close', stop)
    next()
  }
  return guard
}

/**
 * Cuts the connection of a client that takes its answer slower than downloadBytesPerSecond over two windows, while there is
 * something for it to take. An answer that is not there yet, or an event stream without events, is no fault of the client.
 */
export function slowReaderGuard(limits: Limits, onSlow: () => void, windowMs = READ_WINDOW_MS): RequestHandler {
  const leastBytes = (limits.downloadBytesPerSecond * windowMs) / 1000
  return (request, response, next) => {
    if (leastBytes === 0) return next()
    const { socket } = request
    let seenBytes = takenBytes(socket)
    let slowWindows = 0
    const timer = setInterval(() => {
      const newBytes = takenBytes(socket) - seenBytes
      seenBytes += newBytes
      slowWindows = socket.writableLength > 0 && newBytes < leastBytes ? slowWindows + 1 : 0
      if (slowWindows < 2) return
      clearInterval(timer)
      onSlow()
      socket.destroy()
    }, windowMs)
    timer.unref()
    response.once('close', () => clearInterval(timer))
    next()
  }
}

/** Bytes that the kernel has taken from us; it takes more only as the client does. */
function takenBytes(socket: Socket): number {
  return (socket.bytesWritten ?? 0) - socket.writableLength
}
