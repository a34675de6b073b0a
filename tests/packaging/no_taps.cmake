# A program that taps no attention has nothing of taps in it. Variables: NM (lists symbols), PROGRAM (without), CONTROL (a program
# that does tap), WORK.
# AttentionTaps is not looked for: for observers that do not tap it is an empty shell, which unoptimised builds name in signatures.
set(names "AttentionTap[^s]" AttentionTrace ImageAttention trace_attention)
set(inlined attention_weights) # a name to be found in no program, where its one caller took it in

file(MAKE_DIRECTORY ${WORK})
function(list_symbols program file)
  execute_process(COMMAND ${NM} -C ${program} OUTPUT_FILE ${file} ERROR_VARIABLE error RESULT_VARIABLE code)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${NM} -C ${program} failed (${code}): ${error}")
  endif()
  file(STRINGS ${file} decoders REGEX "duet::Decoder<")
  if(NOT decoders)
    message(FATAL_ERROR "${program} names no decoder: stripped? Its symbols prove nothing")
  endif()
endfunction()
list_symbols(${CONTROL} ${WORK}/control.txt)
list_symbols(${PROGRAM} ${WORK}/program.txt)

foreach(name IN LISTS names)
  file(STRINGS ${WORK}/control.txt found REGEX "${name}")
  if(NOT found)
    message(FATAL_ERROR "${CONTROL} taps attention, and has no symbol ${name}: renamed? This test looks for it in ${PROGRAM}")
  endif()
endforeach()
foreach(name IN LISTS names inlined)
  file(STRINGS ${WORK}/program.txt found REGEX "${name}")
  if(found)
    string(REPLACE ";" "\n  " found "${found}")
    message(FATAL_ERROR "${PROGRAM} taps no attention, and has\n  ${found}")
  endif()
endforeach()
