// SPDX-License-Identifier: Apache-2.0

/// XXH64 with seed 0 (Yann Collet, xxHash): the checksum of stored moments. It finds damage, it
/// does not keep secrets.
public func xxHash64(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
    let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
    let prime3: UInt64 = 0x1656_67B1_9E37_79F9
    let prime4: UInt64 = 0x85EB_CA77_C2B2_AE63
    let prime5: UInt64 = 0x27D4_EB2F_1656_67C5

    func rotate(_ x: UInt64, _ k: UInt64) -> UInt64 { (x << k) | (x >> (64 - k)) }
    func round(_ lane: UInt64, _ word: UInt64) -> UInt64 { rotate(lane &+ word &* prime2, 31) &* prime1 }
    func word(_ offset: Int) -> UInt64 {
        UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    var offset = 0
    var hash = prime5
    if bytes.count >= 32 {
        var lanes = (prime1 &+ prime2, prime2, UInt64(0), 0 &- prime1)
        while offset + 32 <= bytes.count {
            lanes.0 = round(lanes.0, word(offset))
            lanes.1 = round(lanes.1, word(offset + 8))
            lanes.2 = round(lanes.2, word(offset + 16))
            lanes.3 = round(lanes.3, word(offset + 24))
            offset += 32
        }
        hash = rotate(lanes.0, 1) &+ rotate(lanes.1, 7) &+ rotate(lanes.2, 12) &+ rotate(lanes.3, 18)
        for lane in [lanes.0, lanes.1, lanes.2, lanes.3] { hash = (hash ^ round(0, lane)) &* prime1 &+ prime4 }
    }
    hash &+= UInt64(bytes.count)
    while offset + 8 <= bytes.count {
        hash = rotate(hash ^ round(0, word(offset)), 27) &* prime1 &+ prime4
        offset += 8
    }
    if offset + 4 <= bytes.count {
        let half = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        hash = rotate(hash ^ (UInt64(half) &* prime1), 23) &* prime2 &+ prime3
        offset += 4
    }
    while offset < bytes.count {
        hash = rotate(hash ^ (UInt64(bytes[offset]) &* prime5), 11) &* prime1
        offset += 1
    }
    hash = (hash ^ (hash >> 33)) &* prime2
    hash = (hash ^ (hash >> 29)) &* prime3
    return hash ^ (hash >> 32)
}
