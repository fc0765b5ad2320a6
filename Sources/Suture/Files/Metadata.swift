// SPDX-License-Identifier: Apache-2.0

/// A JSON value. Objects keep the order of their keys.
public indirect enum JSON: Sendable, Equatable {
    case null
    case bool(Bool)
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSON])
    case object([(key: String, value: JSON)])

    public static func == (a: JSON, b: JSON) -> Bool {
        switch (a, b) {
        case (.null, .null): return true
        case (.bool(let a), .bool(let b)): return a == b
        case (.integer(let a), .integer(let b)): return a == b
        case (.number(let a), .number(let b)): return a == b
        case (.string(let a), .string(let b)): return a == b
        case (.array(let a), .array(let b)): return a == b
        case (.object(let a), .object(let b)):
            return a.count == b.count && zip(a, b).allSatisfy { $0.key == $1.key && $0.value == $1.value }
        default: return false
        }
    }
}

/// What is known about an object beside its numbers: an ordered set of named JSON values.
public struct Metadata: Sendable, Equatable {
    private var json: [(key: String, value: JSON)]

    public init() { json = [] }

    public init(_ members: [(key: String, value: JSON)]) {
        self.init()
        for (key, value) in members { self[key] = value }
    }

    public var members: [(key: String, value: JSON)] { json }

    public static func == (a: Metadata, b: Metadata) -> Bool { JSON.object(a.json) == JSON.object(b.json) }

    /// Setting nil removes the key.
    public subscript(key: String) -> JSON? {
        get { json.first { $0.key == key }?.value }
        set {
            let position = json.firstIndex { $0.key == key }
            switch (newValue, position) {
            case (let value?, let position?): json[position].value = value
            case (let value?, nil): json.append((key, value))
            case (nil, let position?): json.remove(at: position)
            case (nil, nil): break
            }
        }
    }

    /// The text of a string value.
    public func text(_ key: String) -> String? {
        if case .string(let text)? = self[key] { return text }
        return nil
    }

    /// A whole number.
    public func integer(_ key: String) -> Int? {
        if case .integer(let value)? = self[key] { return Int(value) }
        return nil
    }
}
