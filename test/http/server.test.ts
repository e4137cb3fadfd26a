// The listening server: what Node's parser refuses, clients that are too slow, an address that is taken, and its end.

import assert from 'node:assert/strict'
import http from 'node:http'
import net from 'node:net'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import express from 'express'
import { type Limits, loadConfig } from '../../src/config.ts'
import { AppError } from '../../src/errors.ts'
import { sendProblem } from '../../src/http/problem-json.ts'
import { sendBytes } from '../../src/http/send-bytes.ts'
import { closeServer, listen } from '../../src/http/server.ts'
import { slowBodyGuard, slowReaderGuard } from '../../src/http/slow-clients.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { httpApp } from '../support/http-app.ts'

async function serve(t: TestContext, limits: Partial<Limits> = {}) {
  const { app } = httpApp(t, limits)
  const config = loadConfig({ TENSORPRESS_PORT: '0' })
  config.limits = { ...config.limits, ...limits }
  const { server, url } = await listen(app, config)
  t.after(() => closeServer(server, 0))
  return { server, url, port: Number(new URL(url).port), config }
}

/** Sends bytes and gives back everything that came until the server ended the connection. */
async function raw(port: number, ...pieces: string[]): Promise<string> {
  const socket = net.connect(port, '127.0.0.1')
  let text = ''
  socket.on('data', (chunk) => {
    text += chunk
  })
  socket.on('error', () => {})
  for (const piece of pieces) socket.write(piece)
  await new Promise((resolve) => socket.once('close', resolve))
  return text
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 1000; tries++) {
    if (condition()) return
    await sleep(10)
  }
  throw new Error('not within 10 s')
}

test('header lines beyond headerBytes get a 431 problem with the limit', async (t) => {
  const { port } = await serve(t, { headerBytes: 4096 })
  const answer = await raw(port, `GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ${'a'.repeat(5000)}\r\n\r\n`)
  assert.match(answer, /^HTTP\/1\.1 431 Request Header Fields Too Large\r\n/)
  const problem = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n') + 4))
  assert.equal(problem.code, 'headers_too_large')
  assert.deepEqual(problem.context, { limit: 'headerBytes', allowed: 4096, requested: null })
  assert.ok(answer.includes(`X-Request-Id: ${problem.requestId}\r\n`))
})

test('header lines that come too slowly get a 408 problem', async (t) => {
  const { port } = await serve(t, { headerSeconds: 1 })
  const answer = await raw(port, 'GET / HTTP/1.1\r\nHost: localhost\r\n')
  assert.match(answer, /^HTTP\/1\.1 408 Request Timeout\r\n/)
  assert.match(answer, /"limit":"headerSeconds","allowed":1/)
})

test('bytes that are not HTTP get a 400 problem', async (t) => {
  const { port } = await serve(t)
  const answer = await raw(port, '\x16\x03\x01\x02hello\r\n\r\n')
  assert.match(answer, /^HTTP\/1\.1 400 Bad Request\r\n/)
  assert.match(answer, /\r\nX-Content-Type-Options: nosniff\r\n/)
  assert.match(answer, /\r\nContent-Security-Policy: default-src 'none'; /)
  assert.match(answer, /"code":"request_invalid"/)
})

test('a body that stalls gets 408 and its connection ends; a steady one goes through', async (t) => {
  const app = express()
  const limits = { ...loadConfig({}).limits, uploadBytesPerSecond: 1000 }
  app.use(slowBodyGuard(limits, (response) => sendProblem(response, new AppError('request_timeout', 'Too slow.')), 100))
  app.put('/x', (request, response) => {
    request.resume()
    request.once('end', () => response.send('done'))
  })
  const server = http.createServer(app).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.after(() => closeServer(server, 0))
  const { port } = server.address() as net.AddressInfo
  const head = 'PUT /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n'
  const stalled = await raw(port, head, 'a'.repeat(200))
  assert.match(stalled, /^HTTP\/1\.1 408 /)
  assert.match(stalled, /"code":"request_timeout"/)
  const steady = http.request({
    port,
    host: '127.0.0.1',
    method: 'PUT',
    path: '/x',
    headers: { 'content-length': 4000 },
  })
  const answered = new Promise<http.IncomingMessage>((resolve) => steady.once('response', resolve))
  for (let sent = 0; sent < 4000; sent += 400) {
    steady.write('b'.repeat(400))
    await sleep(40)
  }
  steady.end()
  const response = await answered
  response.resume()
  assert.equal(response.statusCode, 200)
})

test('a connection that never sends a header line ends, and so does one that is idle after an answer', async (t) => {
  const { port } = await serve(t, { headerSeconds: 1 })
  assert.match(await raw(port), /^HTTP\/1\.1 408 Request Timeout\r\n/)
  const start = performance.now()
  const answer = await raw(port, 'GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n')
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n/)
  assert.ok(performance.now() - start < 20_000)
})

test('a client that does not take its answer is cut; one that takes it slowly gets all of it', async (t) => {
  const size = 40_000_000
  const app = express()
  const limits = { ...loadConfig({}).limits, downloadBytesPerSecond: 1_000_000 }
  let cut = 0
  app.use(slowReaderGuard(limits, () => cut++, 200))
  app.get('/big', (_request, response) => sendBytes(response, Buffer.alloc(size)))
  app.get('/late', (_request, response) => setTimeout(() => response.send('late'), 1000))
  const server = http.createServer(app).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.after(() => closeServer(server, 0))
  const { port } = server.address() as net.AddressInfo
  const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`

  const stalled = net.connect(port, '127.0.0.1')
  stalled.on('error', () => {})
  stalled.write(get('/big'))
  stalled.pause()
  await until(() => cut === 1)
  stalled.destroy()

  const steady = net.connect(port, '127.0.0.1')
  steady.write(get('/big'))
  let taken = 0
  for await (const chunk of steady as AsyncIterable<Buffer>) {
    taken += chunk.length
    if (taken % 8 < 2) await sleep(1)
  }
  assert.ok(taken > size, `${taken} bytes`)
  assert.match(await raw(port, get('/late')), /late$/)
  assert.equal(cut, 1)
})

test('at the limit the connection that was idle longest makes way; requests in work stay', async (t) => {
  const { app, service } = httpApp(t)
  const config = loadConfig({ TENSORPRESS_PORT: '0' })
  config.limits = { ...config.limits, connections: 16 }
  const metrics = createMetrics('0.0.0-test', false)
  const { server, url } = await listen(app, config, metrics)
  t.after(() => closeServer(server, 0))
  const port = Number(new URL(url).port)
  const held = new AbortController()
  const slow = Promise.withResolvers<void>()
  service.models.list = async () => {
    await slow.promise
    return { items: [], next: null }
  }
  const inWork = fetch(`${url}/v1/models`, { signal: held.signal })
  const idle: net.Socket[] = []
  const closed: number[] = []
  for (let index = 0; index < 40; index++) {
    const socket = net.connect(port, '127.0.0.1')
    t.after(() => socket.destroy())
    socket.on('error', () => {})
    socket.once('close', () => closed.push(index))
    await new Promise((resolve) => socket.once('connect', resolve))
    idle.push(socket)
  }
  await until(() => closed.length >= 25)
  assert.deepEqual(
    closed.slice(0, 25),
    Array.from({ length: 25 }, (_, index) => index),
  )
  const health = await fetch(`${url}/healthz`)
  assert.equal(health.status, 200)
  slow.resolve()
  assert.equal((await inWork).status, 200)
  const text = await metrics.registry.metrics()
  const cut = Number(/connections_cut_total\{cause="idle"\} (\d+)/.exec(text)?.[1])
  assert.ok(cut >= 25 && cut <= 30, `${cut} were cut`)
  const open = Number(/connections_open (\d+)/.exec(text)?.[1])
  assert.ok(open <= 17, `${open} are open`)
})

test('a large body that is refused at its start gets its answer without being read to the end', async (t) => {
  const { port } = await serve(t, { uploadBytes: 1000 })
  const head = 'PUT /v1/models/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n'
  const socket = net.connect(port, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  socket.write(head + 'a'.repeat(100_000))
  const answer = await new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(String(chunk))))
  assert.match(answer, /^HTTP\/1\.1 413 /)
  assert.match(answer, /"requested":1000000000/)
})

test('a client that expects 100 Continue gets it, unless its body is too large', async (t) => {
  const { port } = await serve(t, { uploadBytes: 1000 })
  const head = (bytes: number) =>
    `PUT /v1/models/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: ${bytes}\r\n\r\n`
  assert.match(await raw(port, head(5), 'hello'), /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 201 /)
  const socket = net.connect(port, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.write(head(1001))
  const answer = await new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(String(chunk))))
  assert.match(answer, /^HTTP\/1\.1 413 /)
})

test('a port that is taken is refused with what to do', async (t) => {
  const { config, port } = await serve(t)
  const { app } = httpApp(t)
  await assert.rejects(listen(app, { ...config, port }), (error: AppError) => {
    assert.equal(error.code, 'usage')
    assert.equal(
      error.detail,
      `port ${port} on 127.0.0.1 is in use by another program; choose another with --port (0: any free one)`,
    )
    return true
  })
  await assert.rejects(listen(app, { ...config, host: '192.0.2.1' }), { code: 'usage' })
})

test('closing does not wait for kept-alive connections, and gives an answer in progress its moment', async (t) => {
  const app = express()
  app.get('/slow', (_request, response) => setTimeout(() => response.send('late'), 150))
  app.get('/fast', (_request, response) => response.send('now'))
  const { server, url } = await listen(app, loadConfig({ TENSORPRESS_PORT: '0' }))
  const agent = new http.Agent({ keepAlive: true })
  t.after(() => agent.destroy())
  const get = (path: string) =>
    new Promise<string>((resolve, reject) => {
      http
        .get(url + path, { agent }, (response) => {
          response.on('data', (chunk) => resolve(String(chunk)))
        })
        .on('error', reject)
    })
  await get('/fast')
  const late = get('/slow')
  await sleep(30)
  const start = performance.now()
  await closeServer(server, 2000)
  assert.equal(await late, 'late')
  assert.ok(performance.now() - start < 1500)
})
