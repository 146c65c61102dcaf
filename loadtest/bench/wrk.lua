-- Walks once through a file of ready requests (see workload.py) and stops at its end.
-- Arguments: the file. Prints what was answered as one line of JSON.
local ffi = require("ffi")
ffi.cdef [[
int open(const char *path, int flags);
long lseek(int fd, long offset, int whence);
void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset);
]]
local bytes, size, at = nil, 0, 0

function init(args)
    local fd = ffi.C.open(args[1], 0)
    size = tonumber(ffi.C.lseek(fd, 0, 2))
    bytes = ffi.cast("const uint8_t *", ffi.C.mmap(nil, size, 1, 1, fd, 0))
end

function request()
    if at >= size then
        wrk.thread:stop()
        at = 0
    end
    local length = bytes[at] * 256 + bytes[at + 1]
    local whole = ffi.string(bytes + at + 2, length)
    at = at + 2 + length
    return whole
end

function done(summary)
    local errors = summary.errors
    print(string.format(
        '{"answered": %d, "bytes": %d, "seconds": %.6f, "refused": %d, "broken": %d}',
        summary.requests, summary.bytes, summary.duration / 1e6, errors.status,
        errors.connect + errors.read + errors.write + errors.timeout))
end
