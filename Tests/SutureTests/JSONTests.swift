// SPDX-License-Identifier: Apache-2.0
import Suture
import Testing

@Suite struct JSONTests {
    @Test(arguments: [
        ("null", JSON.null), (" true ", .bool(true)), ("false", .bool(false)), ("0", .integer(0)), ("-0", .integer(0)),
        ("-17", .integer(-17)), ("9223372036854775807", .integer(.max)), ("-9223372036854775808", .integer(.min)),
        ("9223372036854775808", .number(9223372036854775808)), ("1.5", .number(1.5)), ("-2e3", .number(-2000)),
        ("1E+2", .number(100)), ("1e-400", .number(0)), ("0.1", .number(0.1)), ("\"\"", .string("")),
        ("\"\\u00e9\\ud83d\\ude00\\n\\/\"", .string("é😀\n/")), ("\"é😀\"", .string("é😀")), ("[]", .array([])),
        ("[1, [2]]", .array([.integer(1), .array([.integer(2)])])), ("{}", .object([])),
        ("{\"b\":1,\"a\":{\"c\":null}}", .object([("b", .integer(1)), ("a", .object([("c", .null)]))])),
        ("\t\r\n[ ]\n", .array([])), ("\"\\u0000\"", .string("\0")),
    ])
    func parses(text: String, value: JSON) throws {
        #expect(try JSON(parsing: text, name: "text") == value)
        // What the writer makes of it reads back as the same, on one line and on many.
        #expect(try JSON(parsing: value.text(), name: "text") == value)
        #expect(try JSON(parsing: value.text(indent: 2), name: "text") == value)
    }

    @Test(arguments: [
        "", " ", "nul", "True", "NaN", "Infinity", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "0x10", "1e999",
        "-1e999", "\"", "\"\\", "\"\\u12\"", "\"\\u12g4\"", "\"\\x41\"", "\"\\ud800\"", "\"\\ud800\\u0041\"",
        "\"\\udc00\"", "\"\\ud800\\", "\"a\nb\"", "[", "[1", "[1,", "[1,]", "[1 2]", "[,1]", "]", "{", "{\"a\"",
        "{\"a\":", "{\"a\":1", "{\"a\":1,}", "{a:1}", "{'a':1}", "{\"a\" 1}", "{1:2}", "{\"a\":1,\"a\":2}",
        "{\"\\u0061\":1,\"a\":2}", "1 2", "[] // x", "/* x */ 1", "\u{feff}1", "'x'", "\u{a0}1",
    ])
    func refuses(text: String) {
        #expect { try JSON(parsing: text, name: "the text") } throws: { error in
            guard case .format(let message)? = error as? SutureError else { return false }
            return message.hasPrefix("the text is not valid JSON: ") && message.contains(" at byte ")
        }
    }

    @Test(
        arguments: [
            [0x22, 0xff, 0x22], [0x22, 0xc0, 0x80, 0x22], [0x22, 0xed, 0xa0, 0x80, 0x22],
            [0x22, 0xf4, 0x90, 0x80, 0x80, 0x22],
            [0x22, 0xe2, 0x82, 0x22], [0xef, 0xbb, 0xbf, 0x31], [0x31, 0x00], [0xff, 0xfe, 0x31, 0x00],
        ] as [[UInt8]])
    func refusesBytesThatAreNotUTF8(bytes: [UInt8]) {
        #expect(throws: SutureError.self) { try JSON(parsing: bytes, name: "text") }
    }

    @Test func depthIsLimited() throws {
        let limit = JSON.depthLimit
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(try JSON(parsing: nested(limit), name: "text") != .null)
        #expect(throws: SutureError.self) { try JSON(parsing: nested(limit + 1), name: "text") }
        #expect(throws: SutureError.self) {
            try JSON(parsing: String(repeating: "{\"a\":", count: 100_000), name: "text")
        }
    }

    @Test func numbersComeBackAsTheSameBits() throws {
        var random = RandomSource(seed: 1)
        for _ in 0..<5000 {
            let value = Double(bitPattern: random.next())
            guard value.isFinite else { continue }
            guard case .number(let back) = try JSON(parsing: JSON.number(value).text(), name: "text") else {
                Issue.record("\(value) came back as another kind")
                return
            }
            #expect(back.bitPattern == value.bitPattern)
        }
        #expect(JSON.number(.nan).text() == "null")
        #expect(JSON.number(-.infinity).text() == "null")
    }

    @Test func everyScalarComesBack() throws {
        var text = String.UnicodeScalarView()
        for code in (0..<0x3000).map(UInt32.init) + [0xd7ff, 0xe000, 0xfffe, 0xffff, 0x10000, 0x10ffff] {
            if let scalar = Unicode.Scalar(code) { text.append(scalar) }
        }
        let value = JSON.string(String(text))
        guard case .string(let back) = try JSON(parsing: value.text(), name: "text") else {
            Issue.record("not a string")
            return
        }
        // Not ==, which takes equivalent texts for equal.
        #expect(Array(back.unicodeScalars) == Array(text))
    }

    @Test func layoutOfTheWriter() {
        let value = JSON.object([
            ("a", .integer(1)), ("b", .array([.integer(1), .integer(2)])), ("c", .array([.object([])])),
            ("d", .string("\u{1}\"\\")),
        ])
        #expect(value.text() == #"{"a":1,"b":[1,2],"c":[{}],"d":"\u0001\"\\"}"#)
        #expect(
            value.text(indent: 2) == """
                {
                  "a": 1,
                  "b": [1, 2],
                  "c": [
                    {}
                  ],
                  "d": "\\u0001\\"\\\\"
                }
                """)
    }

    @Test func metadataKeepsOrderAndRefusesOtherValues() throws {
        var metadata = try Metadata(parsing: #"{"z":1,"a":"x"}"#, name: "metadata")
        metadata["m"] = .bool(true)
        metadata["z"] = nil
        #expect(metadata.text() == #"{"a":"x","m":true}"#)
        #expect(metadata.text("a") == "x")
        #expect(metadata.integer("a") == nil)
        #expect(throws: SutureError.format("metadata is not a JSON object")) {
            try Metadata(parsing: "[]", name: "metadata")
        }
    }

    /// Random mutations of valid texts: whatever they become, the parser throws a format error or
    /// gives a value that the writer and the parser agree on.
    @Test func mutations() throws {
        let seeds = [
            #"{"architecture":"topk","k":32,"d_in":128,"metadata":{"sae_lens_version":"6.54.12","x":[1,2.5e-3,null,true]}}"#,
            #"[{"a":"\u00e9\ud83d\ude00\\"},-0.5,1e10,[[[]]],"é😀",9223372036854775808]"#,
        ].map { Array($0.utf8) }
        let tokens = [
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud800", "e", "-", ".", "0", "null", "\0", "[[[[",
        ].map {
            Array($0.utf8)
        }
        var random = RandomSource(seed: 20_261_122)
        var accepted = 0
        for _ in 0..<20_000 {
            var bytes = seeds[random.below(seeds.count)]
            for _ in 0...random.below(4) {
                let at = random.below(bytes.count + 1)
                switch random.below(5) {
                case 0 where at < bytes.count: bytes[at] = UInt8(random.below(256))
                case 1 where at < bytes.count: bytes.remove(at: at)
                case 2: bytes.insert(contentsOf: tokens[random.below(tokens.count)], at: at)
                case 3: bytes.removeSubrange(at...)
                default:
                    bytes.insert(contentsOf: bytes[at...].prefix(random.below(20)), at: random.below(bytes.count + 1))
                }
            }
            do {
                let value = try JSON(parsing: bytes, name: "text")
                accepted += 1
                #expect(try JSON(parsing: value.text(), name: "text") == value)
            } catch let error as SutureError {
                guard case .format = error else { throw error }
            }
        }
        // Some mutations stay valid (whitespace, digits, letters in strings); most do not.
        #expect(accepted > 100 && accepted < 19_000)
    }
}
