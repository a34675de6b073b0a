# Every header of FOLDERS (below HEADERS, separated by commas) compiles on its own, and twice in one unit, with the include
# folders INCLUDES alone.
string(REPLACE "," ";" FOLDERS "${FOLDERS}")
string(REPLACE "," ";" INCLUDES "${INCLUDES}")
list(REMOVE_ITEM INCLUDES "" /usr/include)  # searched anyway, and out of place among -isystem
list(TRANSFORM INCLUDES PREPEND "-isystem")
file(MAKE_DIRECTORY ${WORK})
set(failures "")
foreach(folder IN LISTS FOLDERS)
  file(GLOB_RECURSE headers RELATIVE ${HEADERS}/.. ${HEADERS}/${folder}/*.hpp)
  foreach(header IN LISTS headers)
    file(WRITE ${WORK}/twice.cpp "#include <${header}>\n#include <${header}>\n")
    execute_process(COMMAND ${COMPILER} -std=c++20 -fsyntax-only -DPCRE2_CODE_UNIT_WIDTH=8 -I${HEADERS}/.. ${INCLUDES} ${WORK}/twice.cpp
                    RESULT_VARIABLE failed ERROR_VARIABLE said)
    if(failed)
      string(APPEND failures "\n${header}:\n${said}")
    endif()
  endforeach()
endforeach()
if(failures)
  message(FATAL_ERROR "headers that do not stand alone:${failures}")
endif()
