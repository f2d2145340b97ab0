// Preloaded into servers that would listen on every interface: whatever they ask for, they listen on loopback.
const net = require('net')
const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (...args) {
  const callback = args.find((a) => typeof a === 'function')
  const port = typeof args[0] === 'object' && args[0] !== null ? args[0].port : args[0]
  return listen.call(this, { port: Number(port), host: '127.0.0.1' }, callback)
}
