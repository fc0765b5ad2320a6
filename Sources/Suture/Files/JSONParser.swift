// SPDX-License-Identifier: Apache-2.0

extension JSON {
    /// Arrays and objects within each other that the parser accepts.
    public static let depthLimit = 128
    /// The same for files that have metadata of that depth within them, with what transfers add.
    static let fileDepthLimit = 160

    /// Parses one JSON value (RFC 8259, and nothing beyond it): UTF-8 without a byte order mark, no
    /// comments, no trailing commas, no NaN.
    ///
    /// Stricter than the RFC asks where it leaves a choice: a key may stand only once in its object
    /// (keys that Unicode calls equivalent are the same key), half a surrogate pair is refused, and
    /// so is a number too large for a Double. Whole numbers within Int64 are exact integers; larger
    /// ones, and all with a fraction or an exponent, become the nearest Double.
    ///
    /// - Parameter name: what the text is, for error messages.
    /// - Throws: `SutureError.format` with the byte offset.
    public init(parsing bytes: some Collection<UInt8>, name: String) throws {
        try self.init(parsing: bytes, name: name, depthLimit: Self.depthLimit)
    }

    init(parsing bytes: some Collection<UInt8>, name: String, depthLimit: Int) throws {
        func parse(_ bytes: UnsafeBufferPointer<UInt8>) throws -> JSON {
            try JSONParser.parse(bytes, name: name, depthLimit: depthLimit)
        }
        if let value = try bytes.withContiguousStorageIfAvailable(parse) {
            self = value
        } else {
            self = try Array(bytes).withUnsafeBufferPointer(parse)
        }
    }

    public init(parsing text: String, name: String) throws {
        try self.init(parsing: Array(text.utf8), name: name)
    }
}

private struct JSONParser {
    let bytes: UnsafeBufferPointer<UInt8>
    let name: String
    let depthLimit: Int
    var position = 0

    static func parse(_ bytes: UnsafeBufferPointer<UInt8>, name: String, depthLimit: Int) throws -> JSON {
        var parser = JSONParser(bytes: bytes, name: name, depthLimit: depthLimit)
        parser.skipSpace()
        let value = try parser.value(depth: 0)
        parser.skipSpace()
        if parser.position != bytes.count { throw parser.problem("something follows the value") }
        return value
    }

    func problem(_ text: String, at offset: Int? = nil) -> SutureError {
        .format("\(name) is not valid JSON: \(text) at byte \(offset ?? position)")
    }

    /// The next byte, or nil at the end.
    var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { position += 1 }
    }

    mutating func take(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        position += 1
        return true
    }

    mutating func value(depth: Int) throws -> JSON {
        guard depth < depthLimit else { throw problem("more than \(depthLimit) levels deep") }
        guard let first = next else { throw problem("it ends where a value should be") }
        switch first {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default: throw problem("no value begins like this")
        }
    }

    mutating func word(_ text: StaticString, _ value: JSON) throws -> JSON {
        let start = position
        for i in 0..<text.utf8CodeUnitCount where !take(text.utf8Start[i]) {
            throw problem("expected \(text)", at: start)
        }
        return value
    }

    mutating func array(depth: Int) throws -> JSON {
        position += 1
        var elements: [JSON] = []
        skipSpace()
        if take(UInt8(ascii: "]")) { return .array(elements) }
        while true {
            skipSpace()
            elements.append(try value(depth: depth + 1))
            skipSpace()
            if take(UInt8(ascii: "]")) { return .array(elements) }
            guard take(UInt8(ascii: ",")) else { throw problem("expected , or ]") }
        }
    }

    mutating func object(depth: Int) throws -> JSON {
        position += 1
        var members: [(key: String, value: JSON)] = []
        var keys = Set<String>()
        skipSpace()
        if take(UInt8(ascii: "}")) { return .object(members) }
        while true {
            skipSpace()
            let start = position
            guard next == UInt8(ascii: "\"") else { throw problem("expected a key in quotes") }
            let key = try string()
            guard keys.insert(key).inserted else { throw problem("the key \"\(key)\" stands a second time", at: start) }
            skipSpace()
            guard take(UInt8(ascii: ":")) else { throw problem("expected :") }
            skipSpace()
            members.append((key, try value(depth: depth + 1)))
            skipSpace()
            if take(UInt8(ascii: "}")) { return .object(members) }
            guard take(UInt8(ascii: ",")) else { throw problem("expected , or }") }
        }
    }

    mutating func digits() throws {
        guard let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else {
            throw problem("expected a digit")
        }
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
    }

    mutating func number() throws -> JSON {
        let start = position
        var whole = true
        _ = take(UInt8(ascii: "-"))
        // No further digit may follow a leading zero; whatever does is then out of place.
        if !take(UInt8(ascii: "0")) { try digits() }
        if take(UInt8(ascii: ".")) {
            whole = false
            try digits()
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            whole = false
            position += 1
            if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
            try digits()
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if whole, let integer = Int64(text) { return .integer(integer) }
        // Not strtod, which follows the host's locale.
        guard let value = Double(text), value.isFinite else { throw problem("a number too large", at: start) }
        return .number(value)
    }

    mutating func string() throws -> String {
        let start = position
        position += 1
        var content: [UInt8] = []
        while true {
            let run = position
            while let byte = next, byte >= 0x20, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") {
                position += 1
            }
            content.append(contentsOf: bytes[run..<position])
            switch next {
            case UInt8(ascii: "\""):
                position += 1
                guard let text = String(validating: content, as: UTF8.self) else {
                    throw problem("a string that is not UTF-8", at: start)
                }
                return text
            case UInt8(ascii: "\\"): try escape(into: &content)
            case nil: throw problem("a string without an end", at: start)
            default: throw problem("a control character in a string")
            }
        }
    }

    mutating func escape(into content: inout [UInt8]) throws {
        let start = position
        position += 1
        guard let kind = next else { throw problem("it ends within an escape") }
        position += 1
        switch kind {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): content.append(kind)
        case UInt8(ascii: "b"): content.append(0x08)
        case UInt8(ascii: "f"): content.append(0x0c)
        case UInt8(ascii: "n"): content.append(0x0a)
        case UInt8(ascii: "r"): content.append(0x0d)
        case UInt8(ascii: "t"): content.append(0x09)
        case UInt8(ascii: "u"):
            var code = try hexadecimal()
            if (0xd800..<0xdc00).contains(code), take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) {
                let low = try hexadecimal()
                guard (0xdc00..<0xe000).contains(low) else { throw problem("half a surrogate pair", at: start) }
                code = 0x10000 + (code - 0xd800) << 10 + (low - 0xdc00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw problem("half a surrogate pair", at: start) }
            content.append(contentsOf: String(Character(scalar)).utf8)
        default: throw problem("an unknown escape", at: start)
        }
    }

    mutating func hexadecimal() throws -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw problem("expected four hexadecimal digits")
            }
            code = code << 4 + UInt32(digit)
            position += 1
        }
        return code
    }
}
